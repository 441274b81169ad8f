// Package xdp moves frames through AF_XDP sockets: it implements nic.Queue and
// nic.Waiter on the kernel's rings.
//
// The work is divided between two processes. The control process makes a UMEM
// (NewUMEM), opens a socket for each interface and queue (Open), and keeps
// every descriptor. The data process, which has no privileges, is given the
// descriptors, maps the UMEM (MapUMEM) and the rings (Attach), and forwards.
// When it dies, the next one maps the same memory and goes on; package
// handover finds out whose every frame is.
//
// # Who holds a chunk
//
// A chunk of the UMEM belongs either to the worker or to one socket: to its
// receive side (in the fill ring, in the driver, in the RX ring) or to its
// send side (in the TX ring, in the driver, in the completion ring). The rings
// alone do not say which: the kernel and the driver hold chunks that are in no
// ring, thousands of them with zero copy. So the queue itself keeps a record,
// one byte a chunk, the Custody table, in shared memory behind the chunks,
// where the next process finds it. What must stay true, whatever instant the
// process is killed at:
//
//   - A chunk is marked as the socket's before the ring entry that gives it
//     away is published, so a chunk the kernel may touch is never marked free.
//   - A chunk is marked as the worker's after its entry was read and before
//     the ring's consumer index gives the entry back.
//   - Refill and Transmit write the entries first, then how far they are going
//     to publish (the intent), then the marks, then publish. Entries between
//     the published index and the intent were never seen by the kernel: they
//     are still the worker's, whatever their marks say.
//
// From this follows the rule of recovery: the marks are right, except for the
// entries between index and intent (worker's) and for entries still in the RX
// and completion rings (socket's). It needs no waiting and no guess, and the
// kernel may go on receiving and sending meanwhile.
package xdp
