"""`python -m toxmesh` is the same as `toxmesh`."""

from toxmesh.cli import main

main()
