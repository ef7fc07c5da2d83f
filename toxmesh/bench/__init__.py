"""A load generator for any Tox node: requests from many clients and addresses, answers checked.

`toxmesh bench` is its command line. It knows a node by its address and public key alone: nothing
here touches a broker, a worker or the files of a node.
"""
