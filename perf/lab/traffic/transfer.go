package traffic

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"fairlead/perf/lab"
)

// Direction says which way a transfer goes, as the client sees it.
type Direction byte

// The directions of a transfer.
const (
	Download = Direction(opDownload)
	Upload   = Direction(opUpload)
	// BothWays sends and receives at the same time.
	BothWays = Direction(opBoth)
)

// String gives the direction's name.
func (d Direction) String() string {
	switch d {
	case Download:
		return "download"
	case Upload:
		return "upload"
	case BothWays:
		return "both ways"
	}
	return fmt.Sprintf("direction(%d)", byte(d))
}

// Transfer is one TCP connection to a StreamServer that carries known bytes,
// each of which is compared where it arrives.
type Transfer struct {
	Target netip.AddrPort
	// Source is the client's address; the zero Addr leaves it to the kernel.
	Source    netip.Addr
	Direction Direction
	// Bytes is how many are sent each way that Direction says.
	Bytes int64
	// Seed picks the bytes.
	Seed uint64
}

// TransferResult is what a client knows of a faultless transfer.
type TransferResult struct {
	Server  string
	Client  netip.AddrPort // as the server saw it
	Elapsed time.Duration  // from connecting to the end
}

// Run makes the transfer from a host. Its error is nil only when all bytes
// arrived, were right, and both sides ended the connection in order.
func (t Transfer) Run(ctx context.Context, h *lab.Host) (TransferResult, error) {
	begin := time.Now()
	result, err := t.run(ctx, h)
	if err != nil {
		return result, fmt.Errorf("%s of %d bytes, %s: %w", t.Direction, t.Bytes, t.Target, because(ctx, err))
	}
	result.Elapsed = time.Since(begin)
	return result, nil
}

func (t Transfer) run(ctx context.Context, h *lab.Host) (result TransferResult, err error) {
	conn, in, from, err := openStream(ctx, h, t.Source, t.Target,
		streamRequest{op: byte(t.Direction), seed: t.Seed, length: t.Bytes})
	if err != nil {
		return result, err
	}
	defer conn.Close()
	defer bound(ctx, conn)()
	result.Server, result.Client = from.server, from.client

	switch t.Direction {
	case Download:
		err = checkPattern(in, t.Seed, t.Bytes)
	case Upload:
		err = t.upload(conn, in)
	case BothWays:
		sent := make(chan error, 1)
		go func() { sent <- t.send(conn) }()
		// The verdict's line follows the bytes: it is no part of them.
		err = checkPattern(io.LimitReader(in, t.Bytes), t.Seed+1, t.Bytes)
		if err != nil {
			conn.Close() // ends the sending side
			<-sent
			return result, err
		}
		if err = <-sent; err == nil {
			err = readVerdict(in)
		}
	}
	return result, err
}

func (t Transfer) upload(conn *net.TCPConn, in *bufio.Reader) error {
	if err := t.send(conn); err != nil {
		return err
	}
	return readVerdict(in)
}

func (t Transfer) send(conn *net.TCPConn) error {
	if err := sendPattern(conn, t.Seed, t.Bytes); err != nil {
		return err
	}
	return conn.CloseWrite()
}

// readVerdict reads the server's last line and the end of the stream.
func readVerdict(in *bufio.Reader) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading the server's verdict: %w", err)
	}
	if verdict := strings.TrimSuffix(line, "\n"); verdict != verdictOK {
		return fmt.Errorf("the server received: %s", verdict)
	}
	switch _, err := in.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("bytes after the server's verdict")
	default:
		return err
	}
}

// openStream connects, sends the request and reads the server's first line.
func openStream(ctx context.Context, h *lab.Host, source netip.Addr, target netip.AddrPort, req streamRequest) (*net.TCPConn, *bufio.Reader, origin, error) {
	fail := func(err error) (*net.TCPConn, *bufio.Reader, origin, error) { return nil, nil, origin{}, err }
	c, err := dial(ctx, h, "tcp", source, target)
	if err != nil {
		return fail(err)
	}
	conn := c.(*net.TCPConn)
	defer bound(ctx, conn)()
	if _, err := conn.Write(req.append(nil)); err != nil {
		conn.Close()
		return fail(fmt.Errorf("sending the request: %w", err))
	}
	in := bufio.NewReaderSize(conn, patternChunk)
	line, err := in.ReadString('\n')
	if err != nil {
		conn.Close()
		return fail(fmt.Errorf("reading the server's name: %w", err))
	}
	from, err := parseOrigin(strings.TrimSuffix(line, "\n"))
	if err != nil {
		conn.Close()
		return fail(err)
	}
	return conn, in, from, nil
}
