package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"fairlead/cluster"
)

// FuzzHello reads a hello of anybody. What is taken for one says the same when it
// is written again.
func FuzzHello(f *testing.F) {
	var b bytes.Buffer
	if err := writeHello(&b, &hello{Node: "a", Boot: "1", Use: useMember, WireMin: 1, WireMax: 2, Software: "1.0"}); err != nil {
		f.Fatal(err)
	}
	good := b.Bytes()
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:5])
	f.Add([]byte("FLP1\xff\xff"))
	f.Add([]byte("FLP1\x00\x02{}"))
	f.Add([]byte("FLP2\x00\x02{}"))
	f.Fuzz(func(t *testing.T, said []byte) {
		h, err := readHello(iotest.OneByteReader(bytes.NewReader(said)))
		if err != nil {
			return
		}
		if len(said) < 6 || string(said[:4]) != helloMagic || int(binary.BigEndian.Uint16(said[4:])) > maxHello {
			t.Fatalf("%q is taken for a hello", said)
		}
		var again bytes.Buffer
		if err := writeHello(&again, h); err != nil {
			return // it grows when it is written again: more is escaped
		}
		second, err := readHello(&again)
		if err != nil {
			t.Fatal(err)
		}
		if len(h.Why) < 1024 && *second != *h {
			t.Errorf("%+v\n%+v", h, second)
		}
		if v, err := common(h, &hello{WireMin: 1, WireMax: 1}); err == nil && v != 1 {
			t.Errorf("version %d", v)
		}
	})
}

// slowFrames are the messages in data, read without any stream. ok is whether it
// ends where a frame does.
func slowFrames(data []byte) (topics []string, bodies [][]byte, ok bool) {
	for len(data) > 0 {
		if len(data) < 6 {
			return topics, bodies, false
		}
		kind, topic, length := data[0], int(data[1]), int(binary.BigEndian.Uint32(data[2:]))
		data = data[6:]
		if length > cluster.MaxMessage || kind == frameMessage && (topic == 0 || topic > maxTopic) || len(data) < topic+length {
			return topics, bodies, false
		}
		if kind == frameMessage {
			topics, bodies = append(topics, string(data[:topic])), append(bodies, data[topic:topic+length])
		}
		data = data[topic+length:]
	}
	return topics, bodies, true
}

// FuzzFrames compares what is read of a message stream with a slow reader.
func FuzzFrames(f *testing.F) {
	good := appendFrame(appendFrame(nil, "store", []byte("hello")), "flows", nil)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append([]byte{7, 3, 0, 0, 0, 4, 'a', 'b', 'c', 1, 2, 3, 4}, good...))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 'x'})
	f.Add([]byte{1, 0, 0, 0, 0, 1, 'x'})
	f.Add([]byte{1, 65, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		topics, bodies, ok := slowFrames(data)
		r := frameReader{r: bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(data)), 16), unknown: func() {}}
		for n := 0; ; n++ {
			topic, body, err := r.next(func(topic []byte) bool { return true })
			if err != nil {
				if n != len(topics) || (err == io.EOF) != ok {
					t.Fatalf("%d messages and %v; want %d, and a good end: %v", n, err, len(topics), ok)
				}
				return
			}
			if n >= len(topics) || string(topic) != topics[n] || !bytes.Equal(body, bodies[n]) {
				t.Fatalf("message %d: %q %q", n, topic, body)
			}
		}
	})
}

// FuzzRequest has a node answer anything at all on the stream of a call.
func FuzzRequest(f *testing.F) {
	p, err := New(Config{
		Identity: newIdentity(f, "a", clusterKey), Listener: listen(f), WireMin: 1, WireMax: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { p.Close() })
	p.Handle("echo", func(_ context.Context, _ string, request []byte) ([]byte, error) { return request, nil })
	p.Handle("fail", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("no") })
	request := func(topic string, body []byte) []byte {
		b := []byte{byte(len(topic)), 0, 0, 0xff, 0xff}
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		return append(append(b, topic...), body...)
	}
	f.Add(request("echo", []byte("hello")))
	f.Add(request("fail", nil))
	f.Add(request("none", []byte("hello")))
	f.Add(request("echo", []byte("hello"))[:8])
	f.Add([]byte{4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'e', 'c', 'h', 'o'})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := len(data) >= 9 && len(data) >= 9+int(data[0])+int(binary.BigEndian.Uint32(data[5:]))
		here := &caller{said: bytes.NewReader(data), waits: whole, closed: make(chan struct{})}
		s := p.newSession(&link{hello: &hello{Node: "b"}, conn: watch(here)})
		defer s.end(errClosing)
		s.answer(here)
		close(here.closed)
		got := here.heard.Bytes()
		if !whole || data[1]|data[2]|data[3] != 0 || s.ctx.Err() != nil {
			return // incomplete, no time, or no call
		}
		topic, body := string(data[9:9+data[0]]), data[9+int(data[0]):][:binary.BigEndian.Uint32(data[5:])]
		want := []byte{outcomeNoHandler, 0, 0, 0, 0}
		switch topic {
		case "echo":
			want = append(binary.BigEndian.AppendUint32([]byte{outcomeDone}, uint32(len(body))), body...)
		case "fail":
			want = []byte("\x01\x00\x00\x00\x02no")
		}
		if data[4] > 0 && data[4] < 255 { // a time so short that it may be over
			return
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", data, got, want)
		}
	})
}

// FuzzAnswer has a node hear anything at all in answer to a call.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{outcomeDone, 0, 0, 0, 2, 'o', 'k'})
	f.Add([]byte{outcomeFailed, 0, 0, 0, 2, 'n', 'o'})
	f.Add([]byte{outcomeNoHandler, 0, 0, 0, 0})
	f.Add([]byte{9, 0, 0, 0, 0})
	f.Add([]byte{outcomeDone, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &session{name: "b"}
		body, err := s.readAnswer(&readConn{r: bytes.NewReader(data)})
		whole := len(data) >= answerHead && int(binary.BigEndian.Uint32(data[1:])) <= len(data)-answerHead
		if whole != (err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && !errors.Is(err, errProtocol)) &&
			!(whole && data[0] > outcomeBusy) {
			t.Errorf("%q: %v", data, err)
		}
		if err == nil && (data[0] != outcomeDone || !bytes.Equal(body, data[answerHead:][:binary.BigEndian.Uint32(data[1:])])) {
			t.Errorf("%q: %q", data, body)
		}
	})
}

// caller is the other side of a call. When it has said all, it waits for the
// answer, or it is gone.
type caller struct {
	net.Conn
	said   *bytes.Reader
	waits  bool
	closed chan struct{}
	heard  bytes.Buffer
}

func (c *caller) Read(b []byte) (int, error) {
	n, err := c.said.Read(b)
	if err != nil && c.waits {
		<-c.closed
	}
	return n, err
}

func (c *caller) Write(b []byte) (int, error)      { return c.heard.Write(b) }
func (c *caller) SetReadDeadline(time.Time) error  { return nil }
func (c *caller) SetWriteDeadline(time.Time) error { return nil }

type readConn struct {
	net.Conn
	r io.Reader
}

func (c *readConn) Read(b []byte) (int, error) { return c.r.Read(b) }
