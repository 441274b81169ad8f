package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// CountedConfig describes numbered datagrams sent at a rate.
type CountedConfig struct {
	Target netip.AddrPort
	// Flows is how many source ports they are sent from in turn (0: one).
	Flows int
	// Rate is how many are sent a second. When the sender is held up it does
	// not make up for it: the receiver's queues are not to overflow by that.
	Rate int
}

// Counted is a stream of numbered datagrams without answers, and a count of
// which of them arrive: each exactly once, or it is told.
type Counted struct {
	cfg   CountedConfig
	conns []net.Conn
	sinks []*countedSink

	sent     atomic.Uint64
	stopping chan struct{}
	once     sync.Once
	done     chan struct{}
	err      error
	began    time.Time
	over     time.Time
}

// countedSink is one receiver.
type countedSink struct {
	conn  *net.UDPConn
	owner *Counted
	done  chan struct{}

	mu   sync.Mutex
	seen []uint8 // by number: how often it came, at most 255
	gap  time.Duration
	last time.Time
}

// CountedReport is what became of a stream.
type CountedReport struct {
	Sent    uint64
	Arrived uint64 // numbers that came at least once
	Doubled uint64 // further copies of one that had come
	Missing uint64
	// LongestGap is the longest time in which no sink got anything, between the
	// first and the last datagram.
	LongestGap time.Duration
	Rate       float64 // sent a second, really
	Holes      []Hole  // runs of numbers that did not come, the first few
}

// Hole is a run of numbers.
type Hole struct{ First, Count uint64 }

// mostHoles is how many holes a report lists.
const mostHoles = 20

// StartCounted opens the sinks, on the given port of each host, and begins to
// send from a host. It ends with the lab, if not before.
func StartCounted(ctx context.Context, from *lab.Host, cfg CountedConfig, port uint16, sinks ...*lab.Host) (*Counted, error) {
	c := &Counted{cfg: cfg, stopping: make(chan struct{}), done: make(chan struct{})}
	fail := func(err error) (*Counted, error) {
		c.closeAll()
		return nil, fmt.Errorf("numbered datagrams to %s: %w", cfg.Target, err)
	}
	for _, h := range sinks {
		pc, err := h.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return fail(err)
		}
		s := &countedSink{conn: pc.(*net.UDPConn), owner: c, done: make(chan struct{})}
		c.sinks = append(c.sinks, s)
		if err := largeBuffer(s.conn); err != nil {
			return fail(err)
		}
	}
	for range max(1, cfg.Flows) {
		conn, err := dial(ctx, from, "udp", netip.Addr{}, cfg.Target)
		if err != nil {
			return fail(err)
		}
		c.conns = append(c.conns, conn)
	}
	for _, s := range c.sinks {
		go s.receive()
	}
	go c.send(ctx)
	from.Lab().OnClose(func() error { c.end(); return nil })
	return c, nil
}

// largeBuffer lets a socket hold what comes while its reader does not run.
func largeBuffer(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var option error
	err = raw.Control(func(fd uintptr) {
		option = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	})
	return errors.Join(err, option)
}

// send paces by the millisecond.
func (c *Counted) send(ctx context.Context) {
	defer close(c.done)
	c.began = time.Now()
	defer func() { c.over = time.Now() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var message [64]byte
	last, owed := time.Now(), 0.0
	for {
		select {
		case <-c.stopping:
			return
		case <-ctx.Done():
			c.err = context.Cause(ctx)
			return
		case <-tick.C:
		}
		now := time.Now()
		owed += min(now.Sub(last).Seconds(), 0.005) * float64(c.cfg.Rate)
		last = now
		for ; owed >= 1; owed-- {
			n := c.sent.Load()
			binary.BigEndian.PutUint64(message[:], n)
			c.sent.Add(1)
			if err := send(c.conns[n%uint64(len(c.conns))], message[:]); err != nil {
				c.err = err
				return
			}
		}
	}
}

func (s *countedSink) receive() {
	defer close(s.done)
	var buf [2048]byte
	for {
		n, err := s.conn.Read(buf[:])
		if err != nil {
			if isTransient(err) {
				continue
			}
			return
		}
		if n < 8 {
			continue
		}
		number := binary.BigEndian.Uint64(buf[:])
		now := time.Now()
		s.mu.Lock()
		if grow := int(number) + 1 - len(s.seen); grow > 0 {
			s.seen = append(s.seen, make([]uint8, grow)...)
		}
		if s.seen[number] < 255 {
			s.seen[number]++
		}
		if !s.last.IsZero() {
			s.gap = max(s.gap, now.Sub(s.last))
		}
		s.last = now
		s.mu.Unlock()
	}
}

// Sent is how many have been sent.
func (c *Counted) Sent() uint64 { return c.sent.Load() }

// Report is what has become of the stream so far.
func (c *Counted) Report() CountedReport {
	r := CountedReport{Sent: c.sent.Load()}
	times := make([]uint16, r.Sent)
	r.LongestGap = time.Duration(1<<63 - 1)
	for _, s := range c.sinks {
		s.mu.Lock()
		for i, n := range s.seen[:min(len(s.seen), len(times))] {
			times[i] += uint16(n)
		}
		r.LongestGap = min(r.LongestGap, s.gap)
		s.mu.Unlock()
	}
	for i, n := range times {
		switch {
		case n == 0:
			r.Missing++
			if last := len(r.Holes) - 1; last >= 0 && r.Holes[last].First+r.Holes[last].Count == uint64(i) {
				r.Holes[last].Count++
			} else if len(r.Holes) < mostHoles {
				r.Holes = append(r.Holes, Hole{uint64(i), 1})
			}
		default:
			r.Arrived++
			r.Doubled += uint64(n) - 1
		}
	}
	if c.over.After(c.began) {
		r.Rate = float64(r.Sent) / c.over.Sub(c.began).Seconds()
	}
	return r
}

// Stop ends the sending and waits until everything has come, or until nothing
// more comes.
func (c *Counted) Stop(ctx context.Context, quiet time.Duration) (CountedReport, error) {
	c.once.Do(func() { close(c.stopping) })
	<-c.done
	arrived, since := uint64(0), time.Now()
	for {
		r := c.Report()
		if r.Arrived != arrived {
			arrived, since = r.Arrived, time.Now()
		}
		if r.Missing == 0 || time.Since(since) > quiet || ctx.Err() != nil {
			c.closeAll()
			return r, c.err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *Counted) end() {
	c.once.Do(func() { close(c.stopping) })
	<-c.done
	c.closeAll()
}

// closeAll closes all sockets; again does nothing more.
func (c *Counted) closeAll() {
	for _, conn := range c.conns {
		conn.Close()
	}
	for _, s := range c.sinks {
		s.conn.Close()
	}
}
