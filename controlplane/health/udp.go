package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// udpProbe succeeds when a datagram is answered as expected. A port that the
// backend says is closed (ICMP) is a failure at once.
type udpProbe struct {
	dialer
	check *model.UDPCheck
}

func (p *udpProbe) try(ctx context.Context, deadline time.Time) error {
	conn, err := p.dial(ctx, "udp", deadline)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(p.check.Send)); err != nil {
		return plain(err, false)
	}
	answer := make([]byte, model.MaxCheckDatagram)
	n, err := conn.Read(answer)
	if err != nil {
		return plain(err, false)
	}
	if got := string(answer[:n]); !strings.HasPrefix(got, p.check.Expect) {
		return fmt.Errorf("the answer begins with %s", clip(got))
	}
	return nil
}
