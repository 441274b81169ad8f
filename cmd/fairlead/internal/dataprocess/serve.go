package dataprocess

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/ipc"
)

// heard is a message of the control process, or how its connection ended.
type heard struct {
	from *ipc.Conn
	m    *ipc.Message
	err  error
}

// visitor is a control process that has connected.
type visitor struct {
	conn *ipc.Conn
	ipc.Credentials
}

// serve answers the control process until it says stop. When it is gone, the
// process goes on by the image it has, and serves the next one that connects.
func (p *process) serve() error {
	messages, visitors := make(chan heard), make(chan visitor)
	defer p.disconnect()
	var orphan <-chan time.Time
	if p.conn != nil {
		p.hear(messages)
	} else if p.setup.Orphan > 0 {
		orphan = time.After(time.Duration(p.setup.Orphan) * time.Millisecond)
	}
	if p.listener != nil {
		defer p.listener.Close()
		go p.receive(visitors)
	}
	served := os.Getppid()
	for {
		select {
		case h := <-messages:
			if h.from != p.conn {
				continue // what one that is gone has left
			}
			if h.err == nil {
				end, err := p.answer(h.m)
				if err == nil && !end {
					continue
				}
				if end || !broken(err) {
					return err
				}
				h.err = err
			}
			if p.listener == nil {
				if errors.Is(h.err, io.EOF) {
					return nil
				}
				return h.err
			}
			slog.Warn("the control process is gone; this process goes on without it", "was", served, "reason", h.err)
			p.disconnect()
			if p.setup.Orphan > 0 {
				orphan = time.After(time.Duration(p.setup.Orphan) * time.Millisecond)
			}
		case v := <-visitors:
			if p.conn != nil {
				v.conn.Send(ipc.KindBusy, ipc.Busy{PID: served})
				v.conn.Close()
				continue
			}
			if err := p.welcome(v.conn); err != nil {
				slog.Warn("a control process could not be told everything", "pid", v.PID, "error", err)
				v.conn.Close()
				continue
			}
			p.counters.NoteSuccession()
			slog.Info("a control process has taken this process over", "pid", v.PID)
			p.conn, served, orphan = v.conn, v.PID, nil
			p.hear(messages)
		case <-orphan:
			return fmt.Errorf("no control process for %v", time.Duration(p.setup.Orphan)*time.Millisecond)
		}
	}
}

// broken reports whether an error means that nobody is at the other end.
func broken(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}

// hear passes messages of the present connection on until it ends.
func (p *process) hear(to chan<- heard) {
	conn := p.conn
	go func() {
		for {
			m, err := conn.Receive()
			select {
			case to <- heard{conn, m, err}:
			case <-p.stopping:
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// receive passes connections on of those who may have everything: root, and
// the user that the control process runs as, which has made the listener.
func (p *process) receive(to chan<- visitor) {
	for {
		conn, who, err := p.listener.Accept()
		if err != nil {
			return // it is closed
		}
		if who.UID != 0 && who.UID != p.setup.Owner {
			slog.Warn("a connection of another user is refused", "pid", who.PID, "uid", who.UID)
			conn.Close()
			continue
		}
		select {
		case to <- visitor{conn, who}:
		case <-p.stopping:
			conn.Close()
			return
		}
	}
}

// disconnect closes the connection to the control process.
func (p *process) disconnect() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// answer does what a message says. It is over when end is true.
func (p *process) answer(m *ipc.Message) (end bool, err error) {
	switch m.Kind {
	case ipc.KindStop:
		return true, nil
	case ipc.KindYield:
		p.stop()
		return true, p.conn.Send(ipc.KindYielded, nil)
	case ipc.KindFIB, ipc.KindPatch:
		return false, p.update(m)
	case ipc.KindProfile:
		return false, p.profile(m)
	}
	return false, &ipc.KindError{Want: ipc.KindFIB, Got: m.Kind}
}

// welcome hands a control process everything that this process was given.
func (p *process) welcome(to *ipc.Conn) error {
	if err := to.Send(ipc.KindSetup, p.setup, p.kept...); err != nil {
		return err
	}
	for _, w := range p.workers {
		if err := to.Send(ipc.KindWorker, w.setup, w.fds...); err != nil {
			return err
		}
	}
	i := &p.images
	generation := i.snapshot.Generation()
	if err := to.Send(ipc.KindFIB, ipc.FIB{Generation: generation, Size: i.force.size}, i.force.fd); err != nil {
		return err
	}
	ready, err := p.ready()
	if err != nil {
		return err
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	return to.Send(ipc.KindReady, ready, self)
}
