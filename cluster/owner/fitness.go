package owner

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Fitness is what a node says of its own ability to serve VIPs.
type Fitness struct {
	// Forwards says that packets for VIPs are forwarded: a data process decides
	// by a published generation, and interfaces carry frames.
	Forwards bool
	// Impaired says, in words, what is wrong with this node alone; empty: nothing.
	Impaired string
	// Networks are the subnets of its interfaces that carry frames.
	Networks []netip.Prefix
}

// Equal reports whether two are the same.
func (f *Fitness) Equal(o *Fitness) bool {
	return f.Forwards == o.Forwards && f.Impaired == o.Impaired && slices.Equal(f.Networks, o.Networks)
}

// maxNetworks and maxImpaired keep an entry so short that it is gossiped as it is.
const (
	maxNetworks = 16
	maxImpaired = 120 // bytes
)

// said is a Fitness as nodes tell each other, under live/<node>/fitness. Fields
// that a node does not know are those of a newer version and left alone.
type said struct {
	Forwards bool           `json:"forwards"`
	Impaired string         `json:"impaired,omitempty"`
	Networks []netip.Prefix `json:"networks,omitempty"`
	Settled  bool           `json:"settled"`
	Leaving  bool           `json:"leaving,omitempty"`
	VIPs     string         `json:"vips"` // digest of the VIPs in its configuration
	// Round counts what the node has said, so that it can say the same again.
	Round uint64 `json:"round"`
}

func (s *said) equal(o *said) bool {
	return s.Forwards == o.Forwards && s.Impaired == o.Impaired && slices.Equal(s.Networks, o.Networks) &&
		s.Settled == o.Settled && s.Leaving == o.Leaving && s.VIPs == o.VIPs && s.Round == o.Round
}

func (s *said) encode() ([]byte, error) { return json.Marshal(s) }

func decodeSaid(b []byte) (said, error) {
	var s said
	if err := json.Unmarshal(b, &s); err != nil {
		return said{}, fmt.Errorf("fitness of a node: %w", err)
	}
	if len(s.Networks) > maxNetworks || len(s.Impaired) > maxImpaired {
		return said{}, fmt.Errorf("fitness of a node: %d networks and a reason of %d bytes: at most %d and %d are possible", len(s.Networks), len(s.Impaired), maxNetworks, maxImpaired)
	}
	for _, p := range s.Networks {
		if !p.IsValid() {
			return said{}, fmt.Errorf("fitness of a node: a network that is none")
		}
	}
	return s, nil
}

// bounded is f with no more than an entry takes.
func (f Fitness) bounded() Fitness {
	if len(f.Impaired) > maxImpaired {
		f.Impaired = strings.ToValidUTF8(f.Impaired[:maxImpaired], "")
	}
	f.Networks = slices.Clone(f.Networks)
	for i := range f.Networks {
		f.Networks[i] = f.Networks[i].Masked()
	}
	slices.SortFunc(f.Networks, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	f.Networks = slices.Compact(f.Networks)
	if len(f.Networks) > maxNetworks {
		f.Networks = f.Networks[:maxNetworks]
	}
	return f
}
