package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// What is read of a server's answer at most.
const (
	mostHeader = 64 << 10
	mostBody   = 64 << 10
	mostInform = 8 // informational answers (1xx) before the answer
)

// httpProbe succeeds when a request is answered with the right status and body.
// Each has a connection of its own, so that it tests what a new client meets.
type httpProbe struct {
	dialer
	request *http.Request
	status  []model.StatusRange
	body    *regexp.Regexp // nil: any
	tls     *tlsSettings   // nil: none
}

func newHTTPProbe(d dialer, p *preparation) *httpProbe {
	h := &p.check.HTTP
	host := h.Host
	if host == "" {
		host = d.to.String()
	}
	r := &http.Request{
		Method: h.Method, Host: host, Close: true,
		// Opaque keeps the path as it was written.
		URL:    &url.URL{Scheme: "http", Host: host},
		Header: http.Header{"User-Agent": {"fairlead-health"}, "Accept": {"*/*"}},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(h.Path, "?")
	if path, err := url.PathUnescape(r.URL.Path); err == nil {
		r.URL.RawPath, r.URL.Path = r.URL.Path, path
	}
	return &httpProbe{dialer: d, request: r, status: h.Status, body: p.body, tls: p.tls}
}

func (p *httpProbe) try(ctx context.Context, deadline time.Time) error {
	conn, err := p.dial(ctx, "tcp", deadline)
	if err != nil {
		return err
	}
	defer conn.Close()
	var stream io.ReadWriter = conn
	if p.tls != nil {
		if stream, err = p.tls.handshake(conn, p.to.Addr().String()); err != nil {
			return err
		}
	}
	if err := p.request.Write(stream); err != nil {
		return httpError(err)
	}
	// Headers are counted until they end; then the body may take its own.
	limit := &io.LimitedReader{R: stream, N: mostHeader}
	in := bufio.NewReaderSize(limit, 4<<10)
	response, err := p.answer(in)
	if err != nil {
		if limit.N <= 0 {
			return fmt.Errorf("the headers of the answer are longer than %d bytes", mostHeader)
		}
		return httpError(err)
	}
	defer response.Body.Close()
	if !p.right(response.StatusCode) {
		return fmt.Errorf("the status is %d", response.StatusCode)
	}
	if p.body == nil {
		return nil
	}
	limit.N = 2 * mostBody // chunks have headers of their own
	body, err := io.ReadAll(io.LimitReader(response.Body, mostBody))
	if p.body.Match(body) {
		return nil // whatever comes after it
	}
	if err != nil {
		return fmt.Errorf("the body does not match as far as it came: %w", httpError(err))
	}
	return fmt.Errorf("the body does not match; it begins with %s", clip(string(body)))
}

// answer reads the headers of the answer, and passes over those that only say
// that it will come.
func (p *httpProbe) answer(in *bufio.Reader) (*http.Response, error) {
	for range mostInform {
		response, err := http.ReadResponse(in, p.request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
	return nil, fmt.Errorf("there are more than %d informational answers", mostInform)
}

func (p *httpProbe) right(status int) bool {
	for _, r := range p.status {
		if r.First <= status && status <= r.Last {
			return true
		}
	}
	return false
}

func httpError(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection before its answer was complete")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	}
	err = plain(err, false)
	if text := err.Error(); len(text) > 120 {
		return fmt.Errorf("not HTTP: %s", clip(text))
	}
	return err
}
