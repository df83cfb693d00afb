# Reads poses from streamkp's WebSocket (Godot 3). Add it to a scene as a node, and connect to its signals.
#
#   streamkp run mocap --source 0
extends Node

# Every frame, whether it shows somebody or not: the whole message, see `streamkp schema`.
signal frame(message)
# Every person of a frame: joints by name as Vector3 in metres, y up, and bones by name as Quat, local to their parent
# in a T-pose that looks along +z (only where the graph has `kinematics`).
signal person(track, joints, bones, hips)

export var url = "ws://127.0.0.1:8765/ws?format=json"

# The names of the joints that `keypoints_3d` has, in its order.
const H36M17 = [
	"hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
	"neck_nose", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
]

var _socket = WebSocketClient.new()
var _wait = 0.0


func _ready():
	_socket.connect("data_received", self, "_on_data")
	_socket.connect("connection_closed", self, "_on_closed")
	_socket.connect("connection_error", self, "_on_closed")
	_open()


func _process(delta):
	if _wait > 0.0:
		_wait -= delta
		if _wait <= 0.0:
			_open()
		return
	_socket.poll()


func _open():
	_wait = 0.0
	if _socket.connect_to_url(url) != OK:
		_on_closed()


func _on_closed(_clean = false):
	_wait = 1.0  # try again: streamkp may be starting


func _on_data():
	var packet = _socket.get_peer(1).get_packet().get_string_from_utf8()
	var message = JSON.parse(packet).result
	if typeof(message) != TYPE_DICTIONARY or message.has("type"):
		return  # what is no frame says so by its type: the state of a stream, lost messages
	emit_signal("frame", message)
	for each in message.persons:
		emit_signal("person", int(each.track), _joints(each), _bones(each), _hips(each))


func _joints(each):
	var joints = {}
	if each.has("keypoints_3d") and each.keypoints_3d.skeleton == "h36m17":
		var up = 1.0 if each.keypoints_3d.space == "world" else -1.0
		for i in range(H36M17.size()):
			var p = each.keypoints_3d.points[i]
			joints[H36M17[i]] = Vector3(p[0], up * p[1], up * p[2])
	return joints


func _bones(each):
	var bones = {}
	if each.has("kinematics"):
		for bone in each.kinematics.rotations:
			var q = each.kinematics.rotations[bone]
			bones[bone] = Quat(q[0], q[1], q[2], q[3])
	return bones


func _hips(each):
	if not each.has("kinematics"):
		return Vector3()
	var at = each.kinematics.hips
	return Vector3(at[0], at[1], at[2])
