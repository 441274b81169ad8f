package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"fairlead/cluster"
)

// largeRequest is from what length on requests share maxLarge bytes of memory.
const (
	largeRequest = 64 << 10
	maxLarge     = 4 * cluster.MaxMessage
)

// answerTime is how long the other side may take to read an answer.
const answerTime = time.Minute

// RemoteError is the error of the other node's handler.
type RemoteError struct {
	Node string
	Text string
}

func (e *RemoteError) Error() string { return e.Text }

// call asks the other node.
func (s *session) call(ctx context.Context, topic cluster.Topic, request []byte) ([]byte, error) {
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %q: %w", cluster.ErrBacklog, s.name, ctx.Err())
	case <-s.ctx.Done():
		return nil, s.gone()
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %q: %w", cluster.ErrUnreachable, s.name, ctx.Err())
	case <-s.ctx.Done():
		return nil, s.gone()
	}
	stream, err := s.mux.OpenStream()
	if err != nil {
		return nil, s.gone()
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, func() { stream.SetDeadline(time.Unix(1, 0)) })()
	answer, err := s.exchange(ctx, stream, topic, request)
	switch {
	case err == nil || errors.Is(err, cluster.ErrNoHandler) || errors.Is(err, cluster.ErrBacklog):
		return answer, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s of node %q: %w", topic, s.name, ctx.Err())
	case errors.As(err, new(*RemoteError)):
		return nil, err
	case errors.Is(err, errProtocol):
		return nil, fmt.Errorf("%s of node %q: %w", topic, s.name, err)
	}
	if s.ctx.Err() == nil {
		s.end(err) // a stream does not break by itself
	}
	return nil, s.gone()
}

// gone says that the session has ended.
func (s *session) gone() error {
	why := s.why()
	if why == nil {
		why = errEnded
	}
	return fmt.Errorf("%w: %q: %w", cluster.ErrUnreachable, s.name, why)
}

func (s *session) exchange(ctx context.Context, stream net.Conn, topic cluster.Topic, request []byte) ([]byte, error) {
	head := make([]byte, 0, 1+requestHead+len(topic)+min(len(request), chunk))
	head = append(head, streamCall, byte(len(topic)))
	head = binary.BigEndian.AppendUint32(head, timeLeft(ctx))
	head = binary.BigEndian.AppendUint32(head, uint32(len(request)))
	head = append(head, topic...)
	if len(request) <= chunk {
		head, request = append(head, request...), nil
	}
	if err := writeChunks(stream, head); err != nil {
		return nil, err
	}
	if err := writeChunks(stream, request); err != nil {
		return nil, err
	}
	return s.readAnswer(stream)
}

// timeLeft is how many milliseconds a call may take, 0 for no limit.
func timeLeft(ctx context.Context) uint32 {
	deadline, limited := ctx.Deadline()
	if !limited {
		return 0
	}
	return uint32(min(max(time.Until(deadline).Milliseconds(), 1), math.MaxUint32))
}

func (s *session) readAnswer(stream net.Conn) ([]byte, error) {
	var head [answerHead]byte
	if _, err := io.ReadFull(stream, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > cluster.MaxMessage {
		return nil, fmt.Errorf("%w: an answer of %d bytes, want at most %d", errProtocol, length, cluster.MaxMessage)
	}
	body, err := readBody(stream, int(length))
	if err != nil {
		return nil, err
	}
	switch head[0] {
	case outcomeDone:
		return body, nil
	case outcomeFailed:
		return nil, &RemoteError{Node: s.name, Text: string(body)}
	case outcomeNoHandler:
		return nil, cluster.ErrNoHandler
	case outcomeBusy:
		return nil, fmt.Errorf("%w: %q answers too many calls", cluster.ErrBacklog, s.name)
	}
	return nil, fmt.Errorf("%w: outcome %d", errProtocol, head[0])
}

// answer answers a call of the other node.
func (s *session) answer(stream net.Conn) {
	var head [requestHead]byte
	if _, err := io.ReadFull(stream, head[:]); err != nil {
		return
	}
	topicLength, left, length := int(head[0]), binary.BigEndian.Uint32(head[1:]), binary.BigEndian.Uint32(head[5:])
	if topicLength == 0 || topicLength > maxTopic || length > cluster.MaxMessage {
		s.end(fmt.Errorf("%w: a request of %d bytes with a topic of %d, want at most %d and 1 to %d", errProtocol, length, topicLength, cluster.MaxMessage, maxTopic))
		return
	}
	topic := make([]byte, topicLength)
	if _, err := io.ReadFull(stream, topic); err != nil {
		return
	}
	handle := s.p.handler(topic)
	if handle == nil {
		s.p.count.unknownTopics.Add(1)
		decline(stream, outcomeNoHandler, length)
		return
	}
	select {
	case s.answered <- struct{}{}:
		defer func() { <-s.answered }()
	default:
		decline(stream, outcomeBusy, length)
		return
	}
	s.lastCall.Store(now())
	defer func() { s.lastCall.Store(now()) }()

	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if left > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(left)*time.Millisecond)
		defer stop()
	}
	stream.SetReadDeadline(time.Time{})
	if length > largeRequest {
		if err := s.p.large.Acquire(ctx, int64(length)); err != nil {
			decline(stream, outcomeBusy, length)
			return
		}
		defer s.p.large.Release(int64(length))
	}
	stopReading := context.AfterFunc(ctx, func() { stream.SetReadDeadline(time.Unix(1, 0)) })
	request, err := readBody(stream, int(length))
	if err != nil || !stopReading() {
		return
	}
	s.p.wg.Go(func() { // the caller says nothing more: an end of its side is that it does not wait any longer
		defer cancel()
		var rest [1]byte
		stream.Read(rest[:])
	})
	body, err := handle(ctx, s.name, request)
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	switch {
	case err != nil:
		text := err.Error()
		reply(stream, outcomeFailed, []byte(text[:min(len(text), maxText)]))
	case len(body) > cluster.MaxMessage:
		reply(stream, outcomeFailed, fmt.Appendf(nil, "an answer of %d bytes: want at most %d", len(body), cluster.MaxMessage))
	default:
		reply(stream, outcomeDone, body)
	}
}

// decline answers a call whose request has not been read. The caller listens when
// it has sent all of it, and so it is read, and thrown away.
func decline(stream net.Conn, outcome byte, length uint32) {
	reply(stream, outcome, nil)
	stream.SetReadDeadline(time.Now().Add(answerTime))
	io.CopyN(io.Discard, stream, int64(length))
}

// reply writes an answer. When it does not arrive, nobody waits for it.
func reply(stream net.Conn, outcome byte, body []byte) {
	stream.SetWriteDeadline(time.Now().Add(answerTime))
	head := make([]byte, 0, answerHead+min(len(body), chunk))
	head = append(head, outcome)
	head = binary.BigEndian.AppendUint32(head, uint32(len(body)))
	if len(body) <= chunk {
		head, body = append(head, body...), nil
	}
	if writeChunks(stream, head) == nil {
		writeChunks(stream, body)
	}
}
