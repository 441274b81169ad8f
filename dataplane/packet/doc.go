// Package packet reads and describes frames: the headers as typed byte slices
// with named offsets, the checksums, and Parse, which turns a frame into an
// Info that the rest of the data path decides by.
//
// A header type is a view of the bytes of a frame from the header's first
// byte on; it may be longer than the header. Its accessors do not check
// lengths: whoever makes the view has made sure that the header is there in
// full (Parse does), and the length constants say how long that is. All
// fields are read and written in network byte order.
package packet
