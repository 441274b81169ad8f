package main

import "fmt"

// Protocols of the traffic.
const (
	udp = "udp"
	tcp = "tcp"
)

// endless is the number of flows when every frame begins a new one.
const endless = 0

// Case is one kind of traffic, which every contestant is given.
type Case struct {
	// Arms is 1 when frames leave where they came in, 2 when they leave by
	// another interface.
	Arms     int    `json:"arms"`
	Protocol string `json:"protocol"` // udp or tcp
	IPv6     bool   `json:"ipv6,omitempty"`
	Size     int    `json:"size"`  // bytes of a frame, Ethernet header included, checksum not
	Flows    int    `json:"flows"` // 0: every frame begins a new flow
	// Rate is frames a second; 0: as many as the generator can. At a fixed rate
	// delays are measured too.
	Rate int `json:"rate,omitempty"`
}

// String is the case in words.
func (c Case) String() string {
	arms := "two-arm"
	if c.Arms == 1 {
		arms = "one-arm"
	}
	protocol := c.Protocol
	if c.IPv6 {
		protocol += " over IPv6"
	}
	text := fmt.Sprintf("%s, %s, %d bytes, %s", arms, protocol, c.Size, c.flowsText())
	if c.Rate > 0 {
		text += fmt.Sprintf(", %s frames/s", short(c.Rate))
	}
	return text
}

func (c Case) flowsText() string {
	switch {
	case c.Flows == endless && c.Protocol == tcp:
		return "endless new SYNs"
	case c.Flows == endless:
		return "endless new flows"
	case c.Flows == 1:
		return "1 flow"
	}
	return short(c.Flows) + " flows"
}

// short writes a number with k or M where that is exact.
func short(n int) string {
	switch {
	case n > 0 && n%1_000_000 == 0:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n > 0 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}
