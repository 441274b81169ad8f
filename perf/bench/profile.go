package main

import (
	"fmt"
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
}

// profiles by name: short is a look, full is for the record.
func profileNamed(name string) (*profile, error) {
	switch name {
	case "short":
		return &profile{
			name: name, rounds: 1, attempts: 2, warmUp: 200 * time.Millisecond, duration: 500 * time.Millisecond,
			cases: []Case{
				{Arms: 2, Protocol: udp, Size: 60, Flows: 10_000},
				{Arms: 2, Protocol: tcp, Size: 60, Flows: endless},
				{Arms: 1, Protocol: udp, Size: 60, Flows: 10_000},
				{Arms: 2, Protocol: udp, Size: 60, Flows: 10_000, Rate: 100_000},
			},
		}, nil
	case "full":
		return &profile{name: name, rounds: 5, attempts: 3, warmUp: 500 * time.Millisecond, duration: 2 * time.Second, cases: fullCases()}, nil
	}
	return nil, fmt.Errorf("there is no profile %q: there are short and full", name)
}

// fullCases vary one thing after the other around 60-byte UDP frames of 10,000
// flows, which is where packets are dearest; then delays and loss at fixed rates.
func fullCases() []Case {
	var cases []Case
	for _, arms := range []int{2, 1} {
		for _, flows := range []int{1, 10_000, 1_000_000} {
			cases = append(cases, Case{Arms: arms, Protocol: udp, Size: 60, Flows: flows})
		}
		cases = append(cases,
			Case{Arms: arms, Protocol: tcp, Size: 60, Flows: 10_000},
			Case{Arms: arms, Protocol: tcp, Size: 60, Flows: endless},
			Case{Arms: arms, Protocol: udp, Size: 512, Flows: 10_000},
			Case{Arms: arms, Protocol: udp, Size: 1450, Flows: 10_000},
		)
	}
	for _, rate := range []int{100_000, 500_000, 1_000_000} {
		cases = append(cases, Case{Arms: 2, Protocol: udp, Size: 60, Flows: 10_000, Rate: rate})
	}
	return cases
}
