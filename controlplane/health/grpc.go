package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// grpcProbe succeeds when the standard health service (grpc.health.v1) says
// SERVING, on a connection of its own.
type grpcProbe struct {
	dialer
	service string
	tls     *tlsSettings // nil: none
}

// mostMessage is how large an answer, and its headers, may be.
const mostMessage = 16 << 10

func newGRPCProbe(d dialer, p *preparation) *grpcProbe {
	return &grpcProbe{dialer: d, service: p.check.GRPC.Service, tls: p.tls}
}

func (p *grpcProbe) try(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	secret := insecure.NewCredentials()
	if p.tls != nil {
		config, err := p.tls.config(p.to.Addr().String())
		if err != nil {
			return err
		}
		secret = credentials.NewTLS(config)
	}
	var dialled atomic.Pointer[error] // that the library wraps in words of its own
	client, err := grpc.NewClient("passthrough:///"+p.to.String(),
		grpc.WithTransportCredentials(secret),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			conn, err := p.dial(ctx, "tcp", deadline)
			if err != nil {
				dialled.Store(&err)
			}
			return conn, err
		}),
		grpc.WithUserAgent("fairlead-health"), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithMaxHeaderListSize(mostMessage), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostMessage)),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
	)
	if err != nil {
		return err
	}
	answer, err := healthpb.NewHealthClient(client).Check(ctx, &healthpb.HealthCheckRequest{Service: p.service})
	client.Close() //nolint:errcheck // it was asked what it was for
	if err != nil {
		if first := dialled.Load(); first != nil {
			return *first
		}
		return grpcError(err)
	}
	if s := answer.GetStatus(); s != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("the health service says %s", s)
	}
	return nil
}

func grpcError(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.DeadlineExceeded:
		return errTimeout
	case codes.Canceled:
		return errEnded
	case codes.Unimplemented:
		return errors.New("the server has no health service")
	case codes.NotFound:
		return errors.New("the health service does not know the service")
	case codes.Unavailable:
		text := s.Message()
		switch {
		case strings.Contains(text, "authentication handshake failed"):
			_, text, _ = strings.Cut(text, "authentication handshake failed: ")
			return fmt.Errorf("TLS handshake: %s", clip(strings.Trim(text, `"`)))
		case strings.Contains(text, "deadline exceeded"), strings.Contains(text, "i/o timeout"):
			return errTimeout
		}
		return fmt.Errorf("the server does not speak HTTP/2, or ended the connection: %s", clip(text))
	}
	return fmt.Errorf("%s: %s", s.Code(), clip(s.Message()))
}
