// Package decap makes a machine a backend for tunnelled services without a
// tunnel device: an XDP program takes the outer headers off packets that a load
// balancer sends (IP in IP in all four combinations of families, and GUE,
// variants 0 and 1), and SetupHost gives the machine the virtual addresses that
// the packets inside are for.
//
// What the program does to the frame:
//
//   - the link-layer header with its VLAN tags is kept and moved, the EtherType
//     becomes that of the inner packet;
//   - the congestion mark of the outer header is carried to the inner one, or
//     the packet is dropped where that cannot bear it (RFC 6040 section 4.2);
//     DSCP and TTL stay those of the inner packet;
//   - everything else goes to the host untouched. That includes tunnels of
//     others, whose inner destination is none of the given VIPs, and outer
//     packets that are fragments or have IPv4 options, which are counted.
//
// The outer UDP checksum of GUE is not verified: what is inside has its own.
package decap
