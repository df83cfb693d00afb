# Reads poses from streamkp's WebSocket (Godot 4). Add it to a scene as a node, and connect to its signals.
#
#   streamkp run mocap --source 0
class_name StreamkpClient
extends Node

## Every frame, whether it shows somebody or not: the whole message, see `streamkp schema`.
signal frame(message: Dictionary)
## Every person of a frame: joints by name in metres, y up, and bones by name, local to their parent in a T-pose that
## looks along +z (only where the graph has `kinematics`).
signal person(track: int, joints: Dictionary, bones: Dictionary, hips: Vector3)

@export var url := "ws://127.0.0.1:8765/ws?format=json"

## The names of the joints that `keypoints_3d` has, in its order.
const H36M17: Array[String] = [
	"hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
	"neck_nose", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
]

var _socket: WebSocketPeer
var _wait := 0.0


func _ready() -> void:
	_open()


func _process(delta: float) -> void:
	if _wait > 0.0:
		_wait -= delta
		if _wait <= 0.0:
			_open()
		return
	_socket.poll()
	match _socket.get_ready_state():
		WebSocketPeer.STATE_OPEN:
			while _socket.get_available_packet_count() > 0:
				_read(_socket.get_packet().get_string_from_utf8())
		WebSocketPeer.STATE_CLOSED:
			_wait = 1.0  # try again: streamkp may be starting


func _open() -> void:
	_wait = 0.0
	_socket = WebSocketPeer.new()
	_socket.inbound_buffer_size = 1 << 20
	if _socket.connect_to_url(url) != OK:
		_wait = 1.0


func _read(text: String) -> void:
	var message = JSON.parse_string(text)
	if not message is Dictionary or message.has("type"):
		return  # what is no frame says so by its type: the state of a stream, lost messages
	frame.emit(message)
	for each in message.persons:
		person.emit(int(each.track), _joints(each), _bones(each), _hips(each))


func _joints(each: Dictionary) -> Dictionary:
	var joints := {}
	if each.has("keypoints_3d") and each.keypoints_3d.skeleton == "h36m17":
		var up := 1.0 if each.keypoints_3d.space == "world" else -1.0
		for i in H36M17.size():
			var p = each.keypoints_3d.points[i]
			joints[H36M17[i]] = Vector3(p[0], up * p[1], up * p[2])
	return joints


func _bones(each: Dictionary) -> Dictionary:
	var bones := {}
	if each.has("kinematics"):
		for bone in each.kinematics.rotations:
			var q = each.kinematics.rotations[bone]
			bones[bone] = Quaternion(q[0], q[1], q[2], q[3])
	return bones


func _hips(each: Dictionary) -> Vector3:
	if not each.has("kinematics"):
		return Vector3.ZERO
	var at = each.kinematics.hips
	return Vector3(at[0], at[1], at[2])
