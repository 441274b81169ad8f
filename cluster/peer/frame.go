package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"fairlead/cluster"
)

// A stream begins with a byte that says what it is for.
const (
	streamMessages = 'm' // frames, from whoever has opened it
	streamCall     = 'c' // one request, one answer
)

// A frame of a message stream is
//
//	kind (1 byte) | length of the topic (1) | length of the body (4, big-endian) | topic | body
//
// and those of other kinds are ignored.
const (
	frameMessage = 1
	frameHead    = 6
)

// A request is
//
//	length of the topic (1 byte) | time left in milliseconds, 0 for no limit (4) | length of the body (4) | topic | body
//
// and an answer is
//
//	outcome (1 byte) | length of the body (4) | body
const (
	requestHead = 9
	answerHead  = 5
)

// Outcomes of a call.
const (
	outcomeDone      = 0 // the body is the answer
	outcomeFailed    = 1 // the body is the error's text
	outcomeNoHandler = 2
	outcomeBusy      = 3
)

const (
	maxTopic = 64       // bytes of a topic
	maxText  = 64 << 10 // bytes of an error's text
	chunk    = 32 << 10 // what is written of a stream at once, so that streams take turns
)

// errProtocol says that the other side has sent something that nobody sends.
var errProtocol = errors.New("protocol error")

func checkMessage(topic cluster.Topic, body []byte) error {
	if len(topic) == 0 || len(topic) > maxTopic {
		return fmt.Errorf("a topic of %d bytes: want 1 to %d", len(topic), maxTopic)
	}
	if len(body) > cluster.MaxMessage {
		return fmt.Errorf("a message of %d bytes: want at most %d", len(body), cluster.MaxMessage)
	}
	return nil
}

func appendFrame(b []byte, topic cluster.Topic, body []byte) []byte {
	b = append(b, frameMessage, byte(len(topic)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, topic...)
	return append(b, body...)
}

// frameReader reads the frames of a message stream.
type frameReader struct {
	r       *bufio.Reader
	unknown func() // is told of a frame that is ignored
	head    [frameHead]byte
	topic   [maxTopic]byte
}

// next is the next message. The topic holds until the next one; want says
// whether anybody is interested in it, and if not, its body is not kept.
func (f *frameReader) next(want func(topic []byte) bool) (topic, body []byte, err error) {
	for {
		if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
			return nil, nil, err
		}
		kind, topicLength, length := f.head[0], int(f.head[1]), binary.BigEndian.Uint32(f.head[2:])
		if length > cluster.MaxMessage {
			return nil, nil, fmt.Errorf("%w: a message of %d bytes, want at most %d", errProtocol, length, cluster.MaxMessage)
		}
		if kind != frameMessage {
			if err := discard(f.r, topicLength+int(length)); err != nil {
				return nil, nil, err
			}
			f.unknown()
			continue
		}
		if topicLength == 0 || topicLength > maxTopic {
			return nil, nil, fmt.Errorf("%w: a topic of %d bytes, want 1 to %d", errProtocol, topicLength, maxTopic)
		}
		topic = f.topic[:topicLength]
		if _, err := io.ReadFull(f.r, topic); err != nil {
			return nil, nil, unexpected(err)
		}
		if !want(topic) {
			if err := discard(f.r, int(length)); err != nil {
				return nil, nil, err
			}
			continue
		}
		body, err = readBody(f.r, int(length))
		return topic, body, err
	}
}

func discard(r io.Reader, n int) error {
	_, err := io.CopyN(io.Discard, r, int64(n))
	return unexpected(err)
}

// unexpected makes an end in the middle of something an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// firstRead is how much memory is taken on the word of the other side alone.
const firstRead = 64 << 10

// readBody reads n bytes. The memory grows with what arrives, and not with what
// is announced.
func readBody(r io.Reader, n int) ([]byte, error) {
	body := make([]byte, min(n, firstRead))
	have := 0
	for {
		got, err := io.ReadFull(r, body[have:])
		have += got
		if err != nil {
			return nil, unexpected(err)
		}
		if have == n {
			return body, nil
		}
		next := make([]byte, min(n, 2*len(body)))
		copy(next, body)
		body = next
	}
}

// writeChunks writes in pieces, so that other streams have their turn.
func writeChunks(w io.Writer, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunk)
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
