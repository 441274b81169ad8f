// Package ledger is which object holds which address. It knows no API server and no
// clock: what it answers follows from the pools, from what is recorded, and from the
// order in which it was asked.
//
// What always holds:
//   - An address has several holders only if each shares it with each of the others:
//     the same sharing key, namespaces that allow it, and no port in common. Neither
//     externalTrafficPolicy nor the pods matter, for what announces an address here
//     does not depend on where pods are.
//   - What is assigned is in a pool, and is not reserved for somebody else.
//   - An object that holds an address keeps it, unless it asks for another one which it
//     can have, gives the family up, or does not share well with older holders. What
//     is wrong with a pool or a request never takes an address away.
//   - An address that was just given back is the last one to be given out again, for
//     nodes that are cut off may serve it for a while.
package ledger
