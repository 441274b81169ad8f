package traffic

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"fairlead/perf/lab"
)

// The stream protocol. The client sends a request of 17 bytes: an operation, a
// seed and a length, both 64 bits in network order. The server answers with a
// line that names itself and the client's address, and then:
//
//	download  sends length bytes of the pattern of seed, and closes its side.
//	upload    receives length bytes of the pattern of seed, until the client
//	          closes its side, and sends a line: "ok" or what was wrong.
//	both      sends the pattern of seed+1 while it receives that of seed; then
//	          sends the line of an upload.
//	echo      sends back what it receives until the client closes its side.
const (
	opDownload byte = 'd'
	opUpload   byte = 'u'
	opBoth     byte = 'b'
	opEcho     byte = 'e'
)

const streamRequestLen = 17

type streamRequest struct {
	op     byte
	seed   uint64
	length int64
}

func (r streamRequest) append(b []byte) []byte {
	b = append(b, r.op)
	b = binary.BigEndian.AppendUint64(b, r.seed)
	return binary.BigEndian.AppendUint64(b, uint64(r.length))
}

func readStreamRequest(r io.Reader) (streamRequest, error) {
	var b [streamRequestLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return streamRequest{}, err
	}
	return streamRequest{
		op:     b[0],
		seed:   binary.BigEndian.Uint64(b[1:]),
		length: int64(binary.BigEndian.Uint64(b[9:])),
	}, nil
}

// StreamServer serves byte streams over TCP: Transfer and Pinger are its
// clients.
type StreamServer struct {
	name     string
	ln       net.Listener
	accepted atomic.Uint64
	close    func() error

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once closed
	wg    sync.WaitGroup
}

// ServeStream starts a server on a host. It listens on address ("198.18.0.9:7",
// ":7") and is closed with the lab.
func ServeStream(h *lab.Host, address string) (*StreamServer, error) {
	ln, err := h.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("stream server on %s: %w", h.Name, err)
	}
	s := NewStreamServer(h.Name, ln)
	h.Lab().OnClose(s.Close)
	return s, nil
}

// NewStreamServer serves on a listener, which is its own from then on, for as
// long as it is not closed.
func NewStreamServer(name string, ln net.Listener) *StreamServer {
	s := &StreamServer{name: name, ln: ln, conns: map[net.Conn]struct{}{}}
	s.close = sync.OnceValue(s.shutDown)
	s.wg.Go(s.accept)
	return s
}

func (s *StreamServer) accept() {
	for {
		conn, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a client that gave up before it was accepted
		}
		if !s.add(conn) {
			conn.Close()
			return
		}
		s.accepted.Add(1)
		s.wg.Go(func() {
			defer s.drop(conn)
			// What went wrong is seen, and reported, by the client.
			_ = s.serve(conn.(*net.TCPConn))
		})
	}
}

func (s *StreamServer) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *StreamServer) drop(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	conn.Close()
}

func (s *StreamServer) serve(conn *net.TCPConn) error {
	in := bufio.NewReaderSize(conn, patternChunk)
	req, err := readStreamRequest(in)
	if err != nil {
		return err
	}
	from := origin{server: s.name, client: clientAddress(conn.RemoteAddr())}
	if _, err := io.WriteString(conn, from.line()+"\n"); err != nil {
		return err
	}
	switch req.op {
	case opDownload:
		err = sendPattern(conn, req.seed, req.length)
	case opUpload:
		err = sendVerdict(conn, receivePattern(in, req))
	case opBoth:
		received := make(chan error, 1)
		go func() { received <- receivePattern(in, req) }()
		err = sendPattern(conn, req.seed+1, req.length)
		if err != nil {
			conn.Close() // ends the receiving side
		}
		verdict := <-received
		if err == nil {
			err = sendVerdict(conn, verdict)
		}
	case opEcho:
		_, err = io.Copy(conn, in)
	default:
		err = fmt.Errorf("unknown operation 0x%02x", req.op)
	}
	if err != nil {
		return err
	}
	return conn.CloseWrite()
}

// receivePattern reads a client's bytes to their end even when they are wrong:
// closing a connection with unread bytes resets it, and takes the verdict with it.
func receivePattern(in io.Reader, req streamRequest) error {
	err := checkPattern(in, req.seed, req.length)
	if err != nil {
		// What is wrong is known already.
		_, _ = io.Copy(io.Discard, in)
	}
	return err
}

// verdictOK is the line that ends a faultless upload.
const verdictOK = "ok"

func sendVerdict(w io.Writer, err error) error {
	verdict := verdictOK
	if err != nil {
		verdict = err.Error()
	}
	_, writeErr := io.WriteString(w, verdict+"\n")
	return writeErr
}

// Accepted is how many connections the server has accepted.
func (s *StreamServer) Accepted() uint64 { return s.accepted.Load() }

// Wait returns when the listener is closed and all connections have ended, or when
// ctx is done.
func (s *StreamServer) Wait(ctx context.Context) error {
	ended := make(chan struct{})
	go func() { defer close(ended); s.wg.Wait() }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connections of %s go on: %w", s.name, context.Cause(ctx))
	}
}

// Close ends the server and its connections, which clients see as broken.
func (s *StreamServer) Close() error { return s.close() }

func (s *StreamServer) shutDown() error {
	err := s.ln.Close()
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
	return err
}
