# Prints where the left wrist is, for so many people as --frames says:
#   godot3 --path . -s example.gd --url=ws://127.0.0.1:8765/ws?format=json --frames=100
extends SceneTree

var _left = 10


func _init():
	var client = preload("res://streamkp_client.gd").new()
	for argument in OS.get_cmdline_args():
		if argument.begins_with("--url="):
			client.url = argument.substr(6)
		if argument.begins_with("--frames="):
			_left = int(argument.substr(9))
	client.connect("person", self, "_on_person")
	get_root().call_deferred("add_child", client)


func _on_person(track, joints, bones, hips):
	if _left <= 0:
		return
	var wrist = joints["left_wrist"]
	print("person ", track, " left_wrist ", wrist.x, " ", wrist.y, " ", wrist.z, " bones ", bones.size(), " hips ", hips.y)
	_left -= 1
	if _left == 0:
		quit()
