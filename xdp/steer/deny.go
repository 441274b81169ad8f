package steer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// MaxDenied is the most sources that can be denied at a time.
const MaxDenied = 65536

// ErrDeniedFull is the error of Deny when MaxDenied sources are denied.
var ErrDeniedFull = errors.New("the table of denied sources is full")

// Denial is what a denied source has lost.
type Denial struct {
	Packets uint64
	Bytes   uint64 // Ethernet frames without their checksum
}

// Deny drops IP packets from source to addresses of ours until Undeny. Traffic
// to the host, ARP and neighbour discovery are not affected. Expiry is the
// caller's. A source that is denied already keeps its counters.
func (s *Steer) Deny(source netip.Addr) error {
	k, err := keyOf(source)
	if err != nil {
		return fmt.Errorf("deny: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("deny %s: %w", source, err)
	}
	switch err := update(s.shared.denied, k, make([]objectDenial, cpus), ebpf.UpdateNoExist); {
	case errors.Is(err, ebpf.ErrKeyExist):
		return nil
	case s.denials >= MaxDenied && err != nil:
		return fmt.Errorf("deny %s: %w", source, ErrDeniedFull)
	case err != nil:
		return fmt.Errorf("deny %s: %w", source, err)
	}
	s.denials++
	if s.denials == 1 {
		return s.writeSettings()
	}
	return nil
}

// Undeny lets a source in again and returns what it had lost; a source that is
// not denied is no error.
func (s *Steer) Undeny(source netip.Addr) (Denial, error) {
	k, err := keyOf(source)
	if err != nil {
		return Denial{}, fmt.Errorf("undeny: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Denial{}, ErrClosed
	}
	var perCPU []objectDenial
	err = s.shared.denied.Lookup(k, &perCPU)
	if err == nil {
		err = s.shared.denied.Delete(k)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return Denial{}, nil
	}
	if err != nil {
		return Denial{}, fmt.Errorf("undeny %s: %w", source, err)
	}
	s.denials--
	if s.denials == 0 {
		err = s.writeSettings()
	}
	return sumDenials(perCPU), err
}

// Denied returns the denied sources and what each has lost.
func (s *Steer) Denied() (map[netip.Addr]Denial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	return readDenied(s.shared.denied)
}

// writeSettings tells the programs whether the denied map has entries. It
// never says none while there are some, so that a packet of a denied source
// that comes between two calls is at worst let in, as if it had come earlier.
func (s *Steer) writeSettings() error {
	err := s.shared.config.Put(uint32(0), objectSettings{Denied: uint32(s.denials)})
	if err != nil {
		return fmt.Errorf("write the programs' settings: %w", err)
	}
	return nil
}

func readDenied(m *ebpf.Map) (map[netip.Addr]Denial, error) {
	found := make(map[netip.Addr]Denial)
	var k key
	var perCPU []objectDenial
	it := m.Iterate()
	for it.Next(&k, &perCPU) {
		found[k.addr()] = sumDenials(perCPU)
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read denied sources: %w", err)
	}
	return found, nil
}

func sumDenials(perCPU []objectDenial) Denial {
	var sum Denial
	for _, d := range perCPU {
		sum.Packets += d.Packets
		sum.Bytes += d.Bytes
	}
	return sum
}
