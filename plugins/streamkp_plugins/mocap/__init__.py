"""Motion capture: bone rotations from lifted poses, and where they go.

Bones have the names of Unity's `HumanBodyBones`. Everything is right-handed with y up; at rest (identity) the body
stands in a T-pose, looks along +z and has its left along +x, as in VRM 1. Quaternions are x, y, z, w.
"""
