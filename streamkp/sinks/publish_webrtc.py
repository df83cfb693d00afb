"""`publish-webrtc`: as `publish-websocket`, but the page has its video over WebRTC; needs `streamkp[webrtc]`.

Messages go over the WebSocket as ever. Video is compressed between frames, so that it needs a fraction of the network,
and encoded for each page that watches, so that it needs more of the processor: for a few viewers on a thin line.
"""

from __future__ import annotations

from streamkp.errors import UsageError
from streamkp.sinks._web_camera import webrtc_available
from streamkp.sinks.publish_websocket import PublishWebsocket


class PublishWebrtc(PublishWebsocket):
    """Publishes every frame over WebSocket, and serves the page with its video over WebRTC."""

    webrtc = True

    def open(self) -> None:
        if not webrtc_available():
            raise UsageError(f"{self.context.name}: WebRTC is not installed; pip install 'streamkp[webrtc]'")
        super().open()
