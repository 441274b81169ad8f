package main

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

	"fairlead/perf/lab"
)

// Probes are datagrams to the VIP: one every probeEvery, by sockets in turn.
const (
	probeEvery = 500 * time.Microsecond
	sockets    = 64
)

// prober sends probes and knows by which backend each was answered.
type prober struct {
	conns   []net.Conn
	servers []net.PacketConn
	began   time.Time
	wg      sync.WaitGroup
	done    chan struct{}

	// first is, for each backend, when the earliest probe was sent that it has
	// answered since reset, in nanoseconds since began; 0: none.
	first [2]atomic.Int64
	since atomic.Int64
}

// startProbes begins to probe the VIP, with servers on two backends.
func startProbes(ctx context.Context, client *lab.Node, backends []*lab.Node, to netip.AddrPort) (p *prober, err error) {
	p = &prober{began: time.Now(), done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	for i, b := range backends {
		conn, err := b.ListenPacket("udp4", fmt.Sprintf(":%d", probePort))
		if err != nil {
			return nil, err
		}
		p.servers = append(p.servers, conn)
		p.wg.Go(func() { answer(conn, byte(i)) })
	}
	for range sockets {
		conn, err := client.Dial(ctx, "udp4", to.String())
		if err != nil {
			return nil, err
		}
		p.conns = append(p.conns, conn)
		p.wg.Go(func() { p.hear(conn) })
	}
	p.wg.Go(p.send)
	return p, nil
}

func (p *prober) close() error {
	close(p.done)
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	for _, c := range p.servers {
		errs = append(errs, c.Close())
	}
	p.wg.Wait()
	return errors.Join(errs...)
}

// answer sends probes back with the backend's number.
func answer(conn net.PacketConn, number byte) {
	var b [16]byte
	for {
		n, from, err := conn.ReadFrom(b[:])
		if err != nil {
			return
		}
		if n < 9 {
			continue
		}
		b[8] = number
		if _, err := conn.WriteTo(b[:n], from); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (p *prober) send() {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	var b [9]byte
	for i := 0; ; i++ {
		select {
		case <-p.done:
			return
		case <-ticker.C:
		}
		binary.BigEndian.PutUint64(b[:], uint64(time.Since(p.began)))
		// One that is refused while the table has no backend is no news.
		_, _ = p.conns[i%len(p.conns)].Write(b[:])
	}
}

func (p *prober) hear(conn net.Conn) {
	var b [16]byte
	for {
		n, err := conn.Read(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 9 || b[8] > 1 {
			continue
		}
		sent := int64(binary.BigEndian.Uint64(b[:]))
		if sent < p.since.Load() {
			continue
		}
		first := &p.first[b[8]]
		for {
			before := first.Load()
			if before != 0 && before <= sent || first.CompareAndSwap(before, sent) {
				break
			}
		}
	}
}

// reset forgets what was answered; only probes that are sent from now on count.
func (p *prober) reset() time.Time {
	now := time.Now()
	p.since.Store(int64(now.Sub(p.began)))
	p.first[0].Store(0)
	p.first[1].Store(0)
	return now
}

// answered waits for a backend to answer, and says when the first probe was sent
// that it has answered. It gives the answers of probes that were sent before time to
// come.
func (p *prober) answered(ctx context.Context, backend int) (time.Time, error) {
	for p.first[backend].Load() == 0 {
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("backend %d has answered nothing: %w", backend, ctx.Err())
		case <-time.After(probeEvery):
		}
	}
	time.Sleep(5 * time.Millisecond)
	return p.began.Add(time.Duration(p.first[backend].Load())), nil
}
