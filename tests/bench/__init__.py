"""Load from outside: what a running node answers, and what that costs it.

`python -m tests.bench` puts our node beside Debian's tox-bootstrapd and prints one table;
`python -m tests.bench soak` keeps everything busy and watches the memory of each process.
"""
