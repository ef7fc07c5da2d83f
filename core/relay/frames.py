"""What broker and relay workers say to each other: one input, and one commit that answers it.

Input (kind RELAY_INPUT), items:

    [epoch, sequence, applied, notes, records, inbox, hellos, chunks, stream]

`epoch` names one life of a shard's state; the first frame of a new epoch makes the worker forget
all it had. `sequence` counts the inputs of an epoch from 1; a commit has that of its input.
`applied` is the sequence of the last commit the broker has applied. `stream` has the parts
of all streams behind one another. The rest are flat lists:

    notes    serial, note                          FORGET, FULL, HELD or ROOM
    records  serial, key, shared key, receive nonce, send nonce, confirmed, address (endpoint),
             ping id or None, links [id, peer serial or 0, peer link id, ...], its last note
    inbox    serial, plain frame, peer or None     peer: [serial, link id] where a link came up;
                                                   [0, 0] with a ping whose pong is a READ
    hellos   serial, 128 bytes, address
    chunks   serial, how many bytes of `stream` are its

Commit (kind RELAY_COMMIT), items:

    [epoch, sequence, rows, out, effects, drops]

    rows     serial, bytes consumed, frames received, frames sealed, inbox frames done, wait,
             how many bytes of `out` are for it
    out      what goes to the clients of all rows, behind one another
    effects  [tag, serial, ...] in the order in which they happened
    drops    {reason: count}

`wait` says why the rest of a connection's input was left where it is. A worker that broke over an
input says RESET (kind RELAY_RESET, items [epoch]) instead of a commit and drops all input of that
epoch; the broker then begins a new one, as after the death of a worker.
"""

RELAY_INPUT = 10
RELAY_COMMIT = 11
RELAY_RESET = 12

# notes
FORGET = 0  # the connection is gone
FULL = 1  # this receiver's queue is full
ROOM = 2  # it has room again
HELD = 3  # its queue is full because its worker is behind, or gone: its client is not to blame

NOTE_FIELDS = 2
RECORD_FIELDS = 10
INBOX_FIELDS = 3
HELLO_FIELDS = 3
CHUNK_FIELDS = 2
ROW_FIELDS = 7

# places: of an input, of a commit, of a row
CHUNKS = 7
ROWS = 2
ROW_RECEIVED, ROW_SENT = 2, 3

# wait
GO_ON = 0  # all whole frames were taken
ANSWER = 1  # waits for a routing response of its own
AHEAD = 2  # waits until the broker has applied what was sealed
PAUSED = 3  # waits for a receiver that is full
OWN = 4  # waits until its own queue has room for an answer

# effects
HELLO = 0  # serial, shared key, receive nonce, send nonce
CONFIRM = 1  # serial
ROUTE = 2  # serial, key
UNLINK = 3  # serial, link id
PUSH = 4  # serial, link id, data
OOB = 5  # serial, key, data
PONG = 6  # serial
CLOSE = 7  # serial, reason
READ = 8  # serial, id of a pong that the worker does not wait for; the broker may
