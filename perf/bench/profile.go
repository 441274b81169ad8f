package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// profile is how much is measured.
type profile struct {
	name     string
	rounds   int
	attempts int // at one measurement, when others disturb it
	warmUp   time.Duration
	duration time.Duration // of one measurement
	cases    []Case
	// connections says that the contest of TCP connections is held too.
	connections bool
	// selected says which contestants take part in a case; nil: all do.
	selected func(c Case, contestant string) bool
}

// profiles by name: short is a look, full is for the record.
func profileNamed(name string) (*profile, error) {
	switch name {
	case "short":
		return &profile{
			name: name, connections: true, rounds: 1, attempts: 2, warmUp: 200 * time.Millisecond, duration: 500 * time.Millisecond,
			cases: []Case{
				{Arms: 2, Protocol: udp, Size: 60, Flows: 10_000},
				{Arms: 2, Protocol: tcp, Size: 60, Flows: endless},
				{Arms: 2, Protocol: udp, IPv6: true, Size: 62, Flows: 10_000},
				{Arms: 1, Protocol: udp, Size: 60, Flows: 10_000},
				{Arms: 2, Protocol: udp, Size: 60, Flows: 10_000, Rate: 100_000},
			},
		}, nil
	case "full":
		return &profile{
			name: name, connections: true, rounds: 5, attempts: 3, warmUp: 300 * time.Millisecond, duration: 1200 * time.Millisecond,
			cases: fullCases(), selected: telling,
		}, nil
	}
	return nil, fmt.Errorf("there is no profile %q: there are short and full", name)
}

// fullCases vary one thing after the other around 60-byte UDP frames of 10,000
// flows, which is where packets are dearest; then delays and loss at fixed rates.
func fullCases() []Case {
	var cases []Case
	for _, arms := range []int{2, 1} {
		for _, flows := range []int{10_000, 1, 1_000_000} {
			cases = append(cases, Case{Arms: arms, Protocol: udp, Size: 60, Flows: flows})
		}
		cases = append(cases,
			Case{Arms: arms, Protocol: tcp, Size: 60, Flows: endless},
			Case{Arms: arms, Protocol: udp, Size: 512, Flows: 10_000},
			Case{Arms: arms, Protocol: udp, Size: 1450, Flows: 10_000},
			Case{Arms: arms, Protocol: udp, IPv6: true, Size: 62, Flows: 10_000},
		)
	}
	cases = append(cases,
		Case{Arms: 2, Protocol: tcp, Size: 60, Flows: 10_000},
		Case{Arms: 2, Protocol: udp, IPv6: true, Size: 62, Flows: 1},
		Case{Arms: 2, Protocol: tcp, IPv6: true, Size: 74, Flows: 10_000},
	)
	for _, rate := range []int{100_000, 500_000, 1_000_000} {
		cases = append(cases, Case{Arms: 2, Protocol: udp, Size: 60, Flows: 10_000, Rate: rate})
	}
	return cases
}

// telling selects the contestants of the full profile's cases: all where packets
// are dearest; all methods where a target says so and where IPv6 may differ; by
// one method of each kind, NAT and tunnel, elsewhere. Few are left where a million
// flows have to be begun before each measurement.
func telling(c Case, contestant string) bool {
	kinds := strings.HasPrefix(contestant, "fairlead-nat") || strings.HasPrefix(contestant, "fairlead-ipip")
	limits := slices.Contains([]string{cForwarder.name, nftablesDNAT.name, xdpEncapsulation.name}, contestant)
	method := slices.Contains(methods, contestant)
	switch {
	case plainCase(10_000)(c):
		return true
	case c.Flows == 1_000_000:
		memo := contestant == "fairlead-ipip"+withMemo && c.Arms == 1
		return method && (c.Arms == 2 || kinds) || memo || contestant == cForwarder.name
	case c.Flows == endless, c.IPv6 && c.Arms == 2 && c.Flows > 1:
		return method || kinds || limits
	case c.Rate > 0, c.Arms == 1:
		return kinds || limits
	}
	return kinds || limits || contestant == plainForwarder.name
}
