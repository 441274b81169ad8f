// Package migrate turns what MetalLB is configured with into what Fairlead is: its
// pools, its BGP sessions, and the annotations of Services. What has no counterpart
// is named. It changes nothing.
package migrate
