package e2e

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/perf/lab"
)

// TestClusterTrust has strangers at the ports of a cluster, and then revokes the key
// of one of its nodes: the node is out, stays out after everybody's restart, and is
// let in with a new key.
func TestClusterTrust(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t, 3, lab.Config{Backends: 1}, idle)
	w.untilSaid(2, []string{"a member is in the cluster"}, 0, 1, 2)
	w.untilSaid(2, []string{"connected to a node"}, 0, 1, 2)

	garbage := make([]byte, 64<<10)
	rand.Read(garbage)
	var silent []net.Conn
	for _, said := range [][]byte{garbage, []byte("GET / HTTP/1.1\r\nHost: lb1\r\n\r\n"), bytes.Repeat([]byte{0x16, 3, 1, 0xff, 0xff}, 1000), garbage[:3]} {
		c, err := w.Client.Dial(w.ctx, "tcp", net.JoinHostPort(w.Balancers[0].IPv4.String(), "7947"))
		w.must(err)
		defer c.Close()
		c.Write(said) // it may be cut off before all of it is sent
		if len(said) < 10 {
			silent = append(silent, c)
			continue
		}
		w.must(c.SetDeadline(time.Now().Add(20 * time.Second)))
		if answer, err := io.ReadAll(c); os.IsTimeout(err) || len(answer) > 100 {
			t.Errorf("a stranger hears %d bytes, %v", len(answer), err)
		}
	}
	w.untilSaid(1, []string{"a connection is refused"}, 0)

	revoked, err := w.Nodes[0].Client().RevokeMember(w.ctx, "lb3", "disk not wiped")
	w.must(err)
	w.untilSaid(1, []string{"the key of a node is revoked", "node=lb3", revoked.Fingerprint}, 0, 1)
	w.untilSaid(1, []string{"a member is put out of the cluster: its key is revoked", "node=lb3"}, 0, 1)
	if err := w.Nodes[2].Process().Wait(w.ctx); err == nil {
		t.Error("the node ends as if nothing were wrong")
	}
	const gone = "the key of this node has been revoked: the cluster does not take it for one of its nodes any more"
	if !strings.Contains(string(w.Nodes[2].Log()), gone) {
		t.Errorf("it says\n%s", last(w.Nodes[2].Log(), 20))
	}
	if err := w.Nodes[2].Launch(w.ctx); err == nil || !strings.Contains(err.Error(), gone) || !strings.Contains(err.Error(), ": disk not wiped); to let this machine in as a new node remove") {
		t.Errorf("it starts again: %v", err)
	}

	// It has not heard of it: its copy of what is shared is an old one.
	w.must(os.RemoveAll(filepath.Join(w.StateDirectory(2), "cluster", "store")))
	w.must(w.Nodes[1].Stop())
	w.must(w.Nodes[1].Launch(w.ctx))
	list, err := w.Nodes[1].Client().RevokedKeys(w.ctx)
	w.must(err)
	if len(list.Keys) != 1 || list.Keys[0].Node != "lb3" || list.Keys[0].Fingerprint != revoked.Fingerprint || list.Keys[0].Reason != "disk not wiped" {
		t.Errorf("after a restart: %+v", list.Keys)
	}
	before := w.Said(0, "a member is in the cluster", "node=lb3") + w.Said(1, "a member is in the cluster", "node=lb3")
	refused := w.Said(0, "a connection is refused", "revoked")
	w.must(w.Nodes[2].Launch(w.ctx))
	w.untilSaid(refused+1, []string{"a connection is refused", "revoked"}, 0)
	if n := w.Said(0, "a member is in the cluster", "node=lb3") + w.Said(1, "a member is in the cluster", "node=lb3"); n != before {
		t.Error("it is let in again")
	}

	// With another key it is another node.
	w.must(w.Nodes[2].Process().Kill())
	w.must(os.Remove(filepath.Join(w.StateDirectory(2), "cluster", "node.pem")))
	w.must(w.Nodes[2].Launch(w.ctx))
	w.untilSaid(before+1, []string{"a member is in the cluster", "node=lb3"}, 0)
	w.untilSaid(2, []string{"connected to a node"}, 2)
	for _, c := range silent {
		w.must(c.SetReadDeadline(time.Now().Add(20 * time.Second)))
		if _, err := io.ReadAll(c); os.IsTimeout(err) {
			t.Error("who says nothing may stay")
		}
	}
}
