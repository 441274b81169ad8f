package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"fairlead/cluster"

	"github.com/hashicorp/yamux"
)

// Bounds of a session.
const (
	pingAfter  = 800 * time.Millisecond  // of silence, by the dialer; the acceptor waits a little longer
	deadAfter  = 2400 * time.Millisecond // of silence
	visitLimit = 30 * time.Second        // that a visitor may do nothing
	window     = 1 << 20                 // bytes of one stream that are on their way
	maxCalls   = 128                     // of one node to another that are answered at once
	streamTime = 10 * time.Second        // for the head of a request to arrive
	keptStream = 5 * time.Second         // that a stream is kept when one side has closed it
)

// Why sessions end.
var (
	errEnded    = errors.New("the node has closed the connection")
	errSilent   = errors.New("nothing has come from the node for too long")
	errReplaced = errors.New("another connection has taken its place")
	errClosing  = errors.New("this node closes its connections")
	errRevoked  = errors.New("the node's key has been revoked")
	errOtherKey = errors.New("the node of that name has another key now")
	errIdle     = errors.New("the visitor has asked nothing for too long")
)

// session is a link in use.
type session struct {
	p     *Peers
	link  *link
	name  string // of the other node
	since time.Time
	out   *outbox
	calls chan struct{} // of this node, under way

	ctx    context.Context // ends with the session
	cancel context.CancelCauseFunc

	finish   chan struct{} // closed when this node ends
	finished chan struct{} // closed when all messages have been read after that
	ready    chan struct{} // closed when mux is there
	mux      *yamux.Session
	answered chan struct{} // of the other node, under way

	visiting bool // this node is the visitor: see Peers.Dial

	pinging  atomic.Bool
	received atomic.Uint64
	lastCall atomic.Int64 // see now
	reading  atomic.Bool  // its message stream is there
}

func (p *Peers) newSession(l *link) *session {
	s := &session{
		p: p, link: l, name: l.hello.Node, since: time.Now(), out: newOutbox(), ready: make(chan struct{}),
		finish: make(chan struct{}), finished: make(chan struct{}),
		calls: make(chan struct{}, maxCalls), answered: make(chan struct{}, maxCalls),
	}
	s.lastCall.Store(now())
	s.ctx, s.cancel = context.WithCancelCause(p.ctx)
	return s
}

// visitor says whether the other node is one.
func (s *session) visitor() bool { return !s.link.dialed && s.link.hello.Use == useVisit }

// plain says whether there are calls alone.
func (s *session) plain() bool { return s.visiting || s.visitor() }

// start begins to use the link. The goroutines end with the session.
func (s *session) start(up []func(string)) error {
	cfg := &yamux.Config{
		AcceptBacklog:          2 * maxCalls,
		KeepAliveInterval:      time.Hour, // off: Peers watches
		ConnectionWriteTimeout: 30 * time.Second,
		MaxStreamWindowSize:    window,
		StreamCloseTimeout:     keptStream,
		StreamOpenTimeout:      0, // the session is dead before
		Logger:                 &quietLog{s.p.cfg.Log, s.name},
	}
	var err error
	if s.link.dialed {
		s.mux, err = yamux.Client(s.link.tls, cfg)
	} else {
		s.mux, err = yamux.Server(s.link.tls, cfg)
	}
	if err != nil {
		s.end(err)
		s.link.conn.Close()
		return err
	}
	close(s.ready)
	s.p.track(s)
	s.p.wg.Go(s.watch)
	s.p.wg.Go(s.accept)
	if !s.plain() {
		s.p.wg.Go(s.write)
	}
	if len(up) > 0 {
		s.p.wg.Go(func() {
			for _, f := range up {
				f(s.name)
			}
		})
	}
	return nil
}

// end ends the session; why is what callers that wait are told.
func (s *session) end(why error) {
	s.cancel(why)
	s.out.close()
}

// watch waits for the end of the session and takes it down.
func (s *session) watch() {
	select {
	case <-s.ctx.Done():
	case <-s.mux.CloseChan():
		s.end(errEnded)
	}
	s.link.conn.Close()
	s.mux.Close()
	s.p.untrack(s)
}

// why is why the session has ended.
func (s *session) why() error { return context.Cause(s.ctx) }

// write sends what is in the outbox.
func (s *session) write() {
	stream, err := s.mux.OpenStream()
	if err != nil {
		s.end(err)
		return
	}
	batch := []byte{streamMessages}
	for {
		if err := writeChunks(stream, batch); err != nil {
			s.end(err)
			return
		}
		if batch = s.out.take(batch); len(batch) > 0 {
			continue
		}
		select {
		case <-s.out.wake:
		case <-s.finish:
			s.out.seal()
			if batch = s.out.take(batch); writeChunks(stream, batch) == nil {
				stream.Close()
				stream.SetReadDeadline(time.Now().Add(flushTime))
				stream.Read(make([]byte, 1)) // its end says that all of it has been read
			}
			close(s.finished)
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// await waits until the other node has read all messages, when this one ends.
func (s *session) await(until context.Context) {
	select {
	case <-s.finished:
	case <-s.ctx.Done():
	case <-until.Done():
	}
}

// accept takes the streams of the other node.
func (s *session) accept() {
	for {
		stream, err := s.mux.AcceptStream()
		if err != nil {
			s.end(errEnded)
			return
		}
		s.p.wg.Go(func() { s.serve(stream) })
	}
}

// serve does what a stream is for.
func (s *session) serve(stream *yamux.Stream) {
	defer stream.Close()
	stream.SetReadDeadline(time.Now().Add(streamTime))
	var kind [1]byte
	if _, err := stream.Read(kind[:]); err != nil {
		return
	}
	switch {
	case kind[0] == streamCall:
		s.answer(stream)
	case kind[0] == streamMessages && !s.plain() && s.reading.CompareAndSwap(false, true):
		stream.SetReadDeadline(time.Time{})
		s.listen(stream)
	default:
		s.p.count.unknownStreams.Add(1)
	}
}

// listen hands messages to who listens.
func (s *session) listen(stream *yamux.Stream) {
	f := frameReader{r: bufio.NewReader(stream), unknown: func() { s.p.count.unknownFrames.Add(1) }}
	var to func(string, []byte)
	want := func(topic []byte) bool {
		if to = s.p.listener(topic); to == nil {
			s.p.count.unknownTopics.Add(1)
			return false
		}
		return true
	}
	for {
		_, body, err := f.next(want)
		if err == io.EOF { // between two messages: the node is about to end
			return
		}
		if err != nil {
			s.end(fmt.Errorf("messages of the node: %w", err))
			return
		}
		s.received.Add(1)
		to(s.name, body)
	}
}

// check looks after the session: at is now, silence how long this node has had
// to hear something.
func (s *session) check(silence time.Duration) {
	after := pingAfter
	if !s.link.dialed {
		after += pingAfter / 4
	}
	switch {
	case silence > deadAfter:
		s.end(errSilent)
	case s.p.cfg.Identity.Revoked(s.link.key):
		s.end(errRevoked)
	case s.visitor() && len(s.answered) == 0 && now()-s.lastCall.Load() > int64(visitLimit):
		s.end(errIdle)
	case silence > after && s.pinging.CompareAndSwap(false, true):
		s.p.wg.Go(func() {
			defer s.pinging.Store(false)
			s.mux.Ping() // any answer counts as one, and none ends the session
		})
	}
}

// quietLog takes what yamux says. What matters of it ends the session, and is
// said then.
type quietLog struct {
	log  logger
	node string
}

func (q *quietLog) Print(v ...any)   { q.log.Debug(fmt.Sprint(v...), "peer", q.node) }
func (q *quietLog) Println(v ...any) { q.log.Debug(fmt.Sprint(v...), "peer", q.node) }
func (q *quietLog) Printf(format string, v ...any) {
	q.log.Debug(fmt.Sprintf(format, v...), "peer", q.node)
}

type logger interface{ Debug(string, ...any) }

// send has a message wait for being sent.
func (s *session) send(topic cluster.Topic, message []byte) error { return s.out.put(topic, message) }
