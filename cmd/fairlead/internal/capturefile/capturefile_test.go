package capturefile

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/controlplane/api"
)

func packets() []api.Packet {
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	return []api.Packet{
		{Time: at, Worker: 1, Interface: "eth1", Queue: 3, Action: "transmit", Reason: "forward_new", Service: "web", Backend: "web1", Length: 9000, Data: []byte("0123456789abcdef")},
		{Time: at.Add(1), Interface: "eth0", Queue: -1, Action: "transmit", Reason: "forward_new", Sent: true, Length: 15, Data: []byte("0123456789abcde")},
		{Time: at.Add(2), Interface: "eth7", Action: "drop", Reason: "transmit_ring_full", Altered: true, Length: 0, Data: []byte("0123456789abcd")},
	}
}

// TestNG reads a file back with everything that is said of each packet.
func TestNG(t *testing.T) {
	var file bytes.Buffer
	w, err := NewNG(&file, Header{Program: "fairlead v1", Interfaces: []string{"eth0", "eth1"}, Snap: 4096, Comment: "service web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets() {
		if err := w.Packet(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if info := r.SectionInfo(); info.Application != "fairlead v1" || info.Comment != "service web" {
		t.Errorf("the section says %+v", info)
	}
	var got []string
	for range packets() {
		data, ci, options, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		in, err := r.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		queue := "-"
		if options.Queue != nil {
			queue = fmt.Sprint(*options.Queue)
		}
		got = append(got, fmt.Sprintf("%s queue %s direction %d: %d of %d bytes at %s: %s", in.Name, queue, options.Flags.Direction,
			len(data), ci.Length, ci.Timestamp.UTC().Format("05.000000000"), options.Comments[0]))
	}
	want := []string{
		"eth1 queue 3 direction 1: 16 of 9000 bytes at 05.123456789: transmit, forward_new, service web, backend web1, worker 1",
		"eth0 queue - direction 2: 15 of 15 bytes at 05.123456790: transmit, forward_new, worker 0",
		"eth7 queue 0 direction 1: 14 of 14 bytes at 05.123456791: drop, transmit_ring_full, rewritten before it was dropped, worker 0",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%q\nwant\n%q", got, want)
	}
}

// TestClassic reads a file of the old format back.
func TestClassic(t *testing.T) {
	var file bytes.Buffer
	w, err := NewClassic(&file, Header{Snap: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets() {
		if err := w.Packet(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets() {
		data, ci, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, p.Data) || ci.Length != max(p.Length, len(p.Data)) || !ci.Timestamp.Equal(p.Time) {
			t.Errorf("%d of %d bytes at %v, want %+v", len(data), ci.Length, ci.Timestamp, p)
		}
	}
}

// TestNoInterfaces asserts what is said when there is nothing to capture on.
func TestNoInterfaces(t *testing.T) {
	if _, err := NewNG(&bytes.Buffer{}, Header{}); err == nil || err.Error() != "the node has no interfaces" {
		t.Errorf("%v", err)
	}
}
