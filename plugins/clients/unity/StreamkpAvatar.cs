// Moves a humanoid avatar with the first person that streamkp sees. Put it on the object that has the Animator, with
// StreamkpReader.cs beside it; the avatar must stand in its T-pose when the scene starts.
//
//   streamkp run mocap --source 0
using System;
using System.Collections.Generic;
using UnityEngine;

namespace Streamkp
{
    [RequireComponent(typeof(Animator))]
    public class StreamkpAvatar : MonoBehaviour
    {
        public string uri = "ws://127.0.0.1:8765/ws?format=msgpack";
        public bool move = true;

        // Parents first: the turn of a bone in the world is that of its parent, and then its own.
        static readonly string[] Order = {
            "Hips", "", "Spine", "Hips", "Chest", "Spine", "Neck", "Chest", "Head", "Neck",
            "LeftUpperArm", "Chest", "LeftLowerArm", "LeftUpperArm", "LeftHand", "LeftLowerArm",
            "RightUpperArm", "Chest", "RightLowerArm", "RightUpperArm", "RightHand", "RightLowerArm",
            "LeftUpperLeg", "Hips", "LeftLowerLeg", "LeftUpperLeg", "LeftFoot", "LeftLowerLeg",
            "RightUpperLeg", "Hips", "RightLowerLeg", "RightUpperLeg", "RightFoot", "RightLowerLeg",
        };

        Reader _reader;
        Animator _animator;
        float _height;
        readonly Dictionary<string, Quaternion> _rest = new Dictionary<string, Quaternion>();
        readonly Dictionary<string, Quaternion> _world = new Dictionary<string, Quaternion>();

        void Start()
        {
            _animator = GetComponent<Animator>();
            for (int i = 0; i < Order.Length; i += 2)
            {
                var bone = Bone(Order[i]);
                if (bone != null) _rest[Order[i]] = Quaternion.Inverse(transform.rotation) * bone.rotation;
            }
            _height = Bone("Hips").position.y - transform.position.y;
            _reader = new Reader(uri);
            _ = _reader.Run();
        }

        void OnDestroy() { if (_reader != null) _reader.Dispose(); }

        void LateUpdate()
        {
            var frame = _reader.TakeNewest();
            if (frame == null) return;
            var persons = (List<object>)frame["persons"];
            if (persons.Count == 0) return;
            object found;
            if (!((Dictionary<string, object>)persons[0]).TryGetValue("kinematics", out found)) return;
            Apply((Dictionary<string, object>)found);
        }

        void Apply(Dictionary<string, object> kinematics)
        {
            var rotations = (Dictionary<string, object>)kinematics["rotations"];
            for (int i = 0; i < Order.Length; i += 2)
            {
                var q = (List<object>)rotations[Order[i]];
                // From axes of the right hand to Unity's: x is turned round, and with it the sense about y and z.
                var local = new Quaternion(Number(q[0]), -Number(q[1]), -Number(q[2]), Number(q[3]));
                var world = Order[i + 1] == "" ? local : _world[Order[i + 1]] * local;
                _world[Order[i]] = world;
                var bone = Bone(Order[i]);
                if (bone != null) bone.rotation = transform.rotation * world * _rest[Order[i]];
            }
            if (!move) return;
            var at = (List<object>)kinematics["hips"];
            var lengths = (Dictionary<string, object>)kinematics["lengths"];
            // The avatar's legs are not the person's: the place is scaled by them. 0.08 is from the ankle to the sole.
            float scale = _height / (Number(lengths["upper_leg"]) + Number(lengths["lower_leg"]) + 0.08f);
            var place = new Vector3(-Number(at[0]), Number(at[1]), Number(at[2])) * scale;
            Bone("Hips").position = transform.position + transform.rotation * place;
        }

        Transform Bone(string name)
        {
            return _animator.GetBoneTransform((HumanBodyBones)Enum.Parse(typeof(HumanBodyBones), name));
        }

        static float Number(object value) { return Convert.ToSingle(value); }
    }
}
