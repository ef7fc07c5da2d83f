"""Why packets are dropped, for people: what each reason means, and what to do about it.

The reasons are those of docs/metrics.md (a test compares them); `*` stands for a value.
"""

from typing import NamedTuple


class Reason(NamedTuple):
    """What an operator is told of a reason."""

    meaning: str
    todo: str


_TODO = {
    "none": "Nothing: that is how it should be.",
    "noise": "Nothing while it is little: strangers send such things. Of much, see who: ops top.",
    "flood": "See who sends so much: ops top, then p. Above the limit it costs next to"
    " nothing.",
    "new": "See who they are: ops top, then p. Known senders are served first, so nothing is lost.",
    "load": "Find the busy process: ops top. Then more workers of its role, or cores, or for bursts"
    " a greater net.core.rmem_max.",
    "death": "Nothing more is lost, its successor works. The node's log says why it died.",
    "off": "Nothing, unless this node should do that: give that role a worker in the settings.",
    "bug": "A bug of toxmesh: the node's log has it once, with its trace. Please report that.",
    "network": "Look at the machine's network: routes, firewall, a full link (ip -s link).",
    "family": "Nothing, or listen on that family as well: the setting `listen`.",
    "store": "Nothing: other nodes keep it. More workers of that role keep more.",
    "banned": "Nothing: toxmesh ops ban list shows what is banned; ops ban remove ends it.",
    "service": "Nothing, or switch it on again: toxmesh ops services on NAME.",
    "drain": "Nothing: an operator drains this node; toxmesh ops drain --cancel ends it.",
    "operator": "Nothing: an operator of this node wanted it so.",
    "client": "Nothing: clients come and go.",
    "perclient": "Many people behind one address? Then raise relay_per_address or"
    " relay_per_prefix. Else nothing: it is a flood.",
    "room": "Raise relay_connections, or the limit of open files (LimitNOFILE), or run more nodes.",
    "slow": "Nothing for this node: the client's own line is too slow for what is sent to it.",
    "tool": "Look which of your tools asks so much, or does not read its answers.",
    "web": "Look what asks the node's HTTP address: a scanner, a browser, a wrong scrape setting.",
}

_TABLE = """
kernel_full:* | load | the kernel's queue was full: the reader does not keep up
queue_full:* | load | the broker's queue for a worker was full: the oldest of its class went
new_key:all | new | 4,096 datagrams of new senders wait for their keys already
new_key:prefix | new | 64 datagrams of new senders of one /24 or /64 wait for their keys already
lost_in_worker:* | death | datagrams in the hands of a process that died
told_full:* | load | a message to a worker that is far behind
told_lost:* | death | a message on its way to a process that died
told_nobody:* | off | a message for a role that is off, or for a relay without TCP
late_frame | death | from a process that has been replaced
bad_frame | bug | a frame between processes that is none
bad_message | bug | a message to the broker that is none
bad_message:* | bug | a message between workers that is none
wrong_verb:* | bug | a worker said what its role may not say
bug | bug | an exception that nobody named; the log has it once
wire:* | noise | no valid packet of that name
unknown_kind:* | noise | a datagram that is no packet of Tox
not_served:* | off | a packet for clients, or for a role that is off
too_short:* | noise | a datagram too short to have a key
too_long | noise | a datagram longer than any packet
empty | noise | a datagram with nothing in it
banned:key | banned | a datagram whose sender's key is banned
banned:prefix | banned | a datagram that came from a banned prefix
service_off:* | service | a request to a service that is switched off
draining:dht | drain | a ping or nodes request while the node is drained
misplaced | none | a copy of a broadcast, in a socket that is not meant
bad_size:0xf0 | noise | no bootstrap info request
budget:0xf0 | flood | more bootstrap info requests from one source prefix than are answered
send_full | network | the kernel had no room for an answer
send_error:* | network | the kernel refused an answer
no_socket_for_family | family | an answer to an address of a family the node does not listen on
dht_box | noise | a DHT packet not sealed for us, or by another than it says
dht_weak_key | noise | a DHT packet with a key of low order
dht_own_key | none | our own key as the sender's
dht_wrong_shard | bug | a DHT packet for another shard
dht_unknown_kind | bug | no packet of the DHT
dht_ping_size | noise | a ping of a wrong size
dht_ping_type | noise | a ping whose sealed part is none
dht_nodes_size | noise | a nodes request or response of a wrong size
dht_nodes_body | noise | a nodes response that lists no valid nodes
dht_nodes_count | noise | one that lists more than four
dht_search_size | noise | a search of a wrong size
dht_unasked | noise | an answer of a node that was not asked
dht_request_id | noise | an answer to no request of ours
dht_no_room | none | a node that answered, and has no place in the table
dht_candidate_no_room | none | a sender that would have no place in the table
dht_candidate_too_many | none | more than 32 new senders in two seconds
dht_address_family | family | a node at an address of a family we do not have
dht_address_lan | noise | a local address named by a node that is outside
dht_address_nowhere | noise | unspecified, multicast, broadcast
dht_address_port | noise | port 0
dht_request_size | noise | a DHT request of a wrong size
dht_request_no_route | none | a DHT request for a node we do not know
dht_request_not_served | none | a DHT request for the messenger, which a node has not
dht_request_unknown | noise | a DHT request of no known sort
dht_nat_ping_id | noise | an answer to no NAT ping of ours
dht_nat_ping_size | noise | a NAT ping of a wrong size
dht_nat_ping_stranger | noise | from one we do not search
dht_lan_off | none | LAN discovery, which is off
dht_lan_from_outside | noise | LAN discovery from outside local networks
dht_lan_repeated | none | LAN discovery of a node that is being asked already
dht_lan_size | noise | LAN discovery of a wrong size
dht_lan_too_many | none | more new neighbours than are asked at a time
onion_size | noise | an onion packet of a wrong size
onion_not_opened | noise | an onion layer that no key of ours opens
onion_payload | noise | a layer whose content may not be carried
onion_return | noise | an onion return that we have not sealed, or too long ago
onion_kind | bug | no packet of the onion
onion_message | bug | a message between processes that is none of the onion's
onion_client_kind | noise | no packet for an onion client
onion_client_unasked | noise | an answer to nothing that we have asked, or not any more
onion_client_not_ours | noise | an answer of a node that says who announced what, and is wrong
onion_client_weak_key | noise | a letter or an answer with a key of low order
onion_client_address | noise | a node named an address to which nothing may go
onion_client_named_full | noise | nodes that answers named beyond 8 a second
onion_client_letters_full | flood | letters by our own paths beyond 32 a second
onion_client_letters_astray | flood | letters that came by no path of ours, beyond 2 a second
onion_client_strangers_full | flood | letters of strangers beyond 5 a second
onion_client_forged | noise | a letter, or a DHT key, that its sender did not seal
onion_client_stranger | none | a DHT key of somebody who is no friend
onion_client_other_key | noise | a DHT key that is ours, or not that of its sender
onion_client_copy | none | a DHT key that came by another node already
onion_client_replay | noise | a DHT key packet older than the last
onion_client_relay_refused | slow | a relay took no onion packet
weak_key | noise | an onion packet with a key of low order
target_family | family | an address of a family that is unknown, or that we do not have
target_forbidden | noise | unspecified, multicast, broadcast, reserved
target_port_zero | noise | an onion layer that names port 0
target_private | noise | a private address named by somebody outside
announce_size | noise | an announce of a wrong size
announce_not_opened | noise | an announce that no key of ours opens
announce_store_full | store | 100,000 announces nearer to our key are kept
announce_torn | death | an announce that a worker was writing when it was killed
group_torn | death | a group announce that a worker was writing when it was killed
data_torn | death | a data announce that a worker was writing when it was killed
group_announce | noise | no valid announce of a group peer
group_budget | flood | 256 chats were opened from one source prefix
group_chats_full | store | 10,000 chats are kept
data_request_size | noise | data to route that is none
data_announce_size | noise | a data announce of a wrong size
data_announce_not_opened | noise | a data announce that no key of ours opens
data_search_size | noise | a data search of a wrong size
data_retrieve_size | noise | a data retrieve request of a wrong size
data_store_size | noise | a data store request of a wrong size
data_store_not_opened | noise | a data store request that no key of ours opens
data_store_type | noise | a data store request of an unknown type
data_store_full | store | data announces nearer to our key are kept, and there is no more room
data_not_stored | none | data that was asked for, and is not here
data_other_hash | noise | what is kept is not what was announced
data_token | noise | a data token that we have not given, or too long ago
forward_size | noise | a forward packet of a wrong size
forward_kind | noise | a forward request for what is not forwarded
forward_chain | noise | a packet that was forwarded too often
forward_sendback | noise | a forward reply by a way back that we have not made, or too long ago
forward_unknown_node | none | a forward request to a node we do not know
forward_not_asked | noise | a forwarding answer, and we ask nobody to forward
crypto_cookie_limit:* | flood | a cookie request beyond what one source, one peer or all may ask
crypto_cookie_sender | noise | a cookie request of another than the relay says
crypto_cookie_box | noise | a cookie request that is not sealed for us
crypto_cookie_response | noise | a cookie that we have not asked for
crypto_cookie | noise | a handshake with a cookie that we have not baked
crypto_cookie_old | none | a handshake with a cookie that is older than 15 s
crypto_cookie_future | noise | a handshake with a cookie of the future: clocks of workers differ
crypto_cookie_hash | noise | a handshake that was made for another cookie
crypto_handshake_box | noise | a handshake that is not sealed for us
crypto_handshake_again | none | a handshake of a session that has begun already
crypto_handshake_old | noise | a handshake older than the session: replayed
crypto_refused | none | a handshake of a stranger who is to have no session
crypto_sessions_full | load | a session beyond 8,192 of one identity, or 4,096 kept ones
crypto_weak_key | noise | a handshake or cookie request with a key of low order
crypto_state | bug | an event that a session cannot have now
crypto_data_unknown | none | session data from where no session is
crypto_data_box | none | session data that no session opens: late, or of an earlier session
crypto_data_empty | noise | session data with nothing in it
crypto_data_id | noise | session data of an unknown sort
crypto_data_window | noise | session data outside of the window of 32,768 packets
crypto_data_repeated | none | lossless data that is here already: sent again
crypto_request_early | flood | a request packet less than 10 ms behind another
crypto_replay | noise | a session packet that came before
crypto_kept_full | load | lossless data that there is no slot for: the peer sends it again
crypto_kept_torn | bug | a session of an earlier process that could not go on: it was ended
crypto_memory | load | a session was ended that held the most when all held too much
identity_kind | noise | a datagram of a kind that is for no identity
identity_dht_request | noise | a DHT request of a kind that no client sends any more
identity_onion_data | noise | data by the onion of a kind that nobody knows
identity_not_here | death | for an identity that this process does not have, or not any more
identity_old_link | death | between two processes of an identity, from before one was replaced
identity_link_gap | load | a message between two processes of an identity was lost; it is told again
identity_session_over | death | something for a session of an identity that has just ended
identity_session_torn | bug | two processes of an identity disagreed on a session: a new one is made
identity_lossy_full | load | a packet that may be lost came faster than the messenger takes them
identity_not_kept | room | no room to keep where an identity is: after a kill friends search it anew
net_crypto_datagram | bug | a datagram to a net_crypto worker, which should get none
net_crypto_message | bug | a message to a net_crypto worker that is none of its own
messenger_datagram | bug | a datagram to a messenger worker, which should get none
identity_alone | operator | an identity went offline: its messenger was away for five minutes
crypto_relay_kind | noise | what no relay should bring
relay_ended | client | a connection that its client closed
relay_gone | client | a connection that was reset, or that the network says is gone
relay_replaced | client | an older connection of a key that has come again
relay_hello_late | client | a connection without a whole greeting within 10 s
relay_confirm_late | client | a connection without a valid first frame within 10 s
relay_pong_late | client | a client that did not answer our ping
relay_stuck | slow | a client that took no byte of what waits for 10 s
relay_per_address | perclient | too many connections of one address
relay_per_prefix | perclient | too many connections of one /24 or /64
relay_unconfirmed_per_address | perclient | too many greetings of one address
relay_unconfirmed_oldest | flood | too many greetings at once: the oldest made room
relay_accept_paused | room | `relay_connections` are connected
relay_accept_failed | room | the kernel gave an error
relay_no_descriptor | room | descriptors are used up
relay_banned_key | banned | a relay client with a banned key
relay_banned_prefix | banned | a stream from a banned prefix
relay_kicked | operator | a connection that an operator closed, or whose key or address is kept away
relay_no_shard | off | no relay worker is there for a connection's key
relay_poison | bug | a connection whose input was in hand at two deaths of a worker
relay_bug | bug | an exception over one connection, or over a commit
relay_closed:* | noise | a connection whose client broke a rule (greeting, size, box, kind, link)
relay_no_link | client | a client gave up a link that it has not
relay_bug_closed | bug | a connection that was closed for a bug of ours
relay_control_overflow | slow | a client for which 96 KiB of control frames wait
relay_receiver_full | slow | data for a client that does not keep up
relay_answer_full | slow | an answer of onion or forwarding for a client that does not keep up
relay_answer_for_nobody | client | an answer of onion or forwarding for a client that has gone
relay_link_down | client | data on a link whose other end has gone
relay_oob_full | slow | out-of-band data for a client that does not keep up
relay_oob_nobody | client | out-of-band data for a client that is not here
relay_late_commit | death | what a replaced relay worker still said
relay_commit_late | death | a worker that did not answer its input in 15 s begins anew
relay_commit_sequence | bug | a relay worker's answer to no input
relay_reset | death | a relay worker began anew
relay_frame_kind | bug | a frame between processes that is none of the relay's
relay_message | bug | a message between processes that is none of the relay's
relay_datagram | bug | a datagram to a relay worker, which should get none
relay_client_address | noise | a relay at an address where none can be
relay_client_closed:* | noise | a relay that we use broke a rule (greeting, size, box, kind, link)
relay_client_connect_late | network | a relay that did not answer in 10 s
relay_client_empty | noise | data of a peer with nothing in it
relay_client_links_full | none | one more peer than the 240 that a relay connection has links for
relay_client_lost | network | a relay connection that ended
relay_client_pong_late | network | a relay that did not answer our ping in 10 s
relay_client_proxy_bad | network | what the proxy said is neither HTTP nor SOCKS5
relay_client_proxy_login | network | the proxy wants a login, or another one
relay_client_proxy_refused | network | the proxy does not let us through to a relay
relay_client_relays_full | none | one more relay than the 32 by which anybody may be reached
relay_client_route_refused | none | a relay that gave no link to a peer
relay_client_silent | none | nothing came back by a link for 10 s: another relay carries the data
relay_client_stuck | network | a relay that takes nothing, while 512 control packets wait for it
relay_client_swallows | noise | a relay lost what was sent to a peer that another relay reached
relay_client_ties_full | none | one more relay than the six that may lead to a peer
relay_client_unasked_forwarding | noise | a forwarding of a relay that was not asked for one
relay_client_unasked_pong | noise | an answer of a relay to no ping of ours
relay_client_unknown_link | none | something on a link that we have not, or have given up
relay_client_unreachable | network | a relay that could not be connected to
relay_client_weak_key | noise | a relay with a key of low order, or our own
friend_unknown | noise | a handshake, or word of one, who is no friend (any more)
friend_silent | client | a friend from whom nothing came for 32 s; its session was ended
friend_share_relays | noise | a friend's list of relays that is none
friend_relay_port | noise | a friend's relay at port 0
friend_request_size | noise | a friend request of a wrong size
friend_request_again | noise | a friend request of one of the 32 who asked last
friend_request_nospam | noise | a friend request to a Tox ID that an identity has not, or had
friend_request_known | none | a friend request of a friend, or of an identity to itself
messenger_size | noise | a friend's packet of a wrong size, or with a value that cannot be
messenger_unknown_friend | noise | a packet of one who is no friend (any more)
messenger_not_online | noise | a packet of a friend that has not said that it is online
messenger_unknown_kind | noise | a friend's packet of a kind that is not served
messenger_file_number | noise | a friend's file under a number that is in use
messenger_file_unknown | none | a friend's word on a file transfer that is over
messenger_file_control | noise | a friend's word that its file transfer's state does not allow
messenger_file_seek | noise | a friend's seek in a file that it may not, or behind its end
messenger_file_data | none | data of a file that is not accepted, or not wanted any more
control_failed | bug | a request that the node failed over; its log has the trace
control_full | tool | 128 are connected at the control door
control_idle | tool | closed after 60 s without a word
control_timeout | tool | a process did not answer in time
control_too_long | tool | a line of more than 256 KiB
control_not_read | tool | answers at the control door that nobody took
control_event | tool | events that a follower did not take in time
control_remote_key | tool | a key that is none of `remote_operators` wanted in at the remote door
control_remote_full | tool | remote operators beyond 16, or too many sessions of one key
control_remote_stuck | tool | a remote operator who took nothing for 60 s was closed
control_remote_too_much | tool | a remote operator who asked on and on was closed
http_failed | bug | a page that the node failed over; its log has the trace
http_full | web | 64 HTTP requests are being answered already
http_made_room | web | an HTTP connection without a request made room for a new one
http_slow | web | no whole HTTP request in 10 s
http_not_read | web | an answer at the status page that nobody took
http_events_full | web | 16 follow events of the status page already
http_bad_request | web | no HTTP request at the status page
http_body | web | an HTTP request with a body
http_method | web | an HTTP request that is neither GET nor HEAD
http_not_found | web | nothing is at the path that was asked for
http_host | web | the status page was asked for by a name that is not this machine's
http_cross_site | web | a page of another site asked for the status page
"""


def _read(table: str) -> dict[str, Reason]:
    rows = (line.split(" | ") for line in table.strip().splitlines())
    return {name: Reason(meaning, _TODO[todo]) for name, todo, meaning in rows}


REASONS = _read(_TABLE)
_UNKNOWN = Reason("a reason without an explanation", "Please report that.")


def explain(reason: str) -> Reason:
    """Returns what a reason means; one with a value in it is found by what stands before that."""
    return REASONS.get(reason) or REASONS.get(reason.partition(":")[0] + ":*") or _UNKNOWN
