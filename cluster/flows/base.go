package flows

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Share is a backend's part in a base table: what the table is made of, and so
// the same on every node.
type Share struct {
	Endpoint netip.AddrPort
	Weight   int
	Withheld int // per mille of what the weight is due, 0 to 1,000
}

// Shares limits what an entry may say.
const (
	maxShares   = 65535
	maxWeight   = 65535
	maxWithheld = 1000
)

// Phase is where a pool's base is in its life.
type Phase string

// The phases. A base is replaced in three steps, each of which is made when every
// live node has done all that the one before asks of it:
//
//	steady                 base A
//	prepare                base A, also B: nodes tell flows that either would send
//	                       elsewhere, so that those which B would are known before
//	settle                 base B, also A: nodes that have not heard of it yet go by
//	                       A, so that what A would send elsewhere is still told
//	steady                 base B
const (
	Steady  Phase = "steady"
	Prepare Phase = "prepare"
	Settle  Phase = "settle"
)

// Base is what a pool's entry says.
type Base struct {
	Phase  Phase
	Shares []Share // of the base table, by endpoint
	Also   []Share // of the other table that flows are compared with; none when steady
}

// PoolBase is the base of a pool; it has no shares when there is none.
type PoolBase struct {
	Pool string
	Base
}

// ErrNewer says that an entry was written by newer software, in a way that this
// one does not read.
var ErrNewer = errors.New("written by newer software")

// baseVersion is that of the entry's format. Fields may be added to it; it
// grows when old software would go wrong.
const baseVersion = 1

type baseDocument struct {
	Version int             `json:"version"`
	Phase   Phase           `json:"phase"`
	Base    []shareDocument `json:"base"`
	Also    []shareDocument `json:"also,omitempty"`
}

// shareDocument is an endpoint, a weight, and what is withheld: three values in
// a list, since a pool may have thousands.
type shareDocument Share

func (s shareDocument) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{s.Endpoint, s.Weight, s.Withheld})
}

func (s *shareDocument) UnmarshalJSON(raw []byte) error {
	var fields []json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	if len(fields) < 3 {
		return fmt.Errorf("a share of %d values: want 3", len(fields))
	}
	return errors.Join(json.Unmarshal(fields[0], &s.Endpoint), json.Unmarshal(fields[1], &s.Weight), json.Unmarshal(fields[2], &s.Withheld))
}

// Encode is the value of the pool's entry.
func (b *Base) Encode() ([]byte, error) {
	doc := baseDocument{Version: baseVersion, Phase: b.Phase, Base: []shareDocument{}}
	for _, s := range b.Shares {
		doc.Base = append(doc.Base, shareDocument(s))
	}
	for _, s := range b.Also {
		doc.Also = append(doc.Also, shareDocument(s))
	}
	return json.Marshal(doc)
}

// DecodeBase reads the value of a pool's entry. What it does not know is left
// out; ErrNewer says that too little would remain.
func DecodeBase(raw []byte) (Base, error) {
	var doc baseDocument
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Base{}, fmt.Errorf("the base of a pool: %w", err)
	}
	if doc.Version > baseVersion {
		return Base{}, fmt.Errorf("the base of a pool, version %d: %w", doc.Version, ErrNewer)
	}
	b := Base{Phase: doc.Phase}
	switch doc.Phase {
	case Steady, Prepare, Settle:
	default:
		return Base{}, fmt.Errorf("the base of a pool: unknown phase %q", doc.Phase)
	}
	if (b.Phase == Steady) != (len(doc.Also) == 0) {
		return Base{}, fmt.Errorf("the base of a pool: phase %q with %d other shares", doc.Phase, len(doc.Also))
	}
	var err error
	if b.Shares, err = checkShares(doc.Base); err != nil {
		return Base{}, err
	}
	if b.Also, err = checkShares(doc.Also); err != nil {
		return Base{}, err
	}
	return b, nil
}

func checkShares(docs []shareDocument) ([]Share, error) {
	if len(docs) > maxShares {
		return nil, fmt.Errorf("the base of a pool: %d shares, at most %d are possible", len(docs), maxShares)
	}
	var list []Share
	for _, d := range docs {
		s := Share(d)
		switch {
		case !s.Endpoint.Addr().IsValid():
			return nil, errors.New("the base of a pool: a share without an endpoint")
		case s.Weight < 0 || s.Weight > maxWeight:
			return nil, fmt.Errorf("the base of a pool: %s has weight %d: want 0 to %d", s.Endpoint, s.Weight, maxWeight)
		case s.Withheld < 0 || s.Withheld > maxWithheld:
			return nil, fmt.Errorf("the base of a pool: %s withholds %d per mille: want 0 to %d", s.Endpoint, s.Withheld, maxWithheld)
		}
		list = append(list, s)
	}
	list = sortShares(list)
	for i := 1; i < len(list); i++ {
		if list[i].Endpoint == list[i-1].Endpoint {
			return nil, fmt.Errorf("the base of a pool: %s is there twice", list[i].Endpoint)
		}
	}
	return list, nil
}

// sortShares sorts a list of shares by endpoint.
func sortShares(list []Share) []Share {
	slices.SortFunc(list, func(a, b Share) int {
		return cmp.Or(a.Endpoint.Addr().Compare(b.Endpoint.Addr()), cmp.Compare(a.Endpoint.Port(), b.Endpoint.Port()))
	})
	return list
}

// tables are the lists of shares that flows are compared with.
func (b *Base) tables() [][]Share {
	if len(b.Also) == 0 {
		return [][]Share{b.Shares}
	}
	return [][]Share{b.Shares, b.Also}
}

// covers reports whether flows that differ from a table of o have been told
// where those that differ from a table of b have been.
func (b *Base) covers(o *Base) bool {
	for _, t := range o.tables() {
		if len(t) > 0 && !slices.ContainsFunc(b.tables(), func(have []Share) bool { return slices.Equal(have, t) }) {
			return false
		}
	}
	return true
}
