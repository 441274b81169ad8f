// Package allocate is the writer's side of addresses: what package ledger decides is
// made binding by AddressReservation objects in Kubernetes, before anybody writes an
// address into a status.
//
// No address gets two owners, also when two writers work at the same time:
//
//   - A reservation's name follows from its address. The API server lets one of two
//     writers create it; the other one learns who has it, and decides again.
//   - A reservation that is there is only changed or deleted in the version that was
//     decided on (resourceVersion). Each claim is a change, so nobody takes a
//     reservation for a leftover that was claimed meanwhile.
//   - A claim is good for ClaimTime: whoever has it writes the address into the
//     status within that time, and in the version of the object that was decided on,
//     or claims again. What another writer has claimed is not collected for Grace,
//     which is longer, and counted from when it was seen here: clocks do not matter.
//
// What a status records is never forgotten: reservations that somebody has deleted
// are made again from statuses.
package allocate
