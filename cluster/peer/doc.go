// Package peer is how nodes speak to each other: cluster.Peers over TCP.
//
// There is one connection between any two nodes. It is TLS 1.3, and both sides
// prove by their certificates that the cluster key vouches for them (see
// cluster/identity); after that each says Hello, and they agree on a version.
// Streams on it (yamux, which has flow control for each) carry one call each, and
// one in each direction carries all messages that nobody answers:
//
//	TCP ── TLS 1.3 ── hello ── yamux ──┬─ message stream, dialer to acceptor
//	                                   ├─ message stream, acceptor to dialer
//	                                   └─ a stream for each call
//
// So a call of many megabytes does not keep a small message waiting, and a
// handler that is slow keeps its own kind waiting and nothing else.
//
// Which of two nodes dials: the one whose name comes first; the other one waits
// a moment, and then tries as well. When both have, the connection stays that
// the first one has made. A node is dialed for as long as it is a member that is
// to be counted on. A connection on which nothing has arrived for too long is
// dead, whatever TCP thinks.
package peer
