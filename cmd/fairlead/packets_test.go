package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// answering is a node's socket on which every request is answered with some
// items, each a line of JSON; asked gets the query.
func answering[Item any](t *testing.T, asked *string, items ...Item) *api.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "node.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked != nil {
			*asked = r.Method + " " + r.URL.Path + "?" + r.URL.Query().Encode()
		}
		for _, item := range items {
			json.NewEncoder(w).Encode(item)
		}
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return api.NewClient(socket)
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.Local)

func someFlow() api.Flow {
	return api.Flow{
		Protocol: "tcp", Client: "203.0.113.7:4711", VIP: "198.18.0.10:80", Service: "web", Method: "nat", Backend: "web1", Address: "198.18.10.101:8080",
		SNAT: "198.18.10.2:1024", State: "established", IdleMS: 1200, ExpiresMS: 3_598_800, Interface: "eth0", Via: "02:00:00:00:00:01",
	}
}

// TestFlowTables asserts what people see of flows, and what the node is asked.
func TestFlowTables(t *testing.T) {
	gone := api.Flow{Protocol: "udp", Client: "[2001:db8::7]:53", VIP: "[2001:db8:10::1]:53", State: "unreplied", IdleMS: -1, ExpiresMS: 100}
	watching := 2
	counts := api.FlowCounts{Total: 7, Groups: []api.FlowCount{{Group: "web1", Pool: "web", Flows: 6}, {Flows: 1}}}
	for _, c := range []struct {
		name   string
		flags  flowFlags
		wide   bool
		client func(asked *string) *api.Client
		asked  string
		want   string
	}{
		{"list", flowFlags{service: "web", limit: 2, client: endsFlag{ends(t, "203.0.113.0/24")}, idleOver: time.Minute}, false,
			func(asked *string) *api.Client {
				return answering(t, asked, api.FlowBatch{Flows: []api.Flow{someFlow()}}, api.FlowBatch{Flows: []api.Flow{gone}}, api.FlowBatch{More: true})
			}, "GET /v1/flows?client=203.0.113.0%2F24&idle_over=1m&limit=2&service=web", `
PROTO  CLIENT            VIP                  SERVICE  BACKEND  ADDRESS             STATE         IDLE  EXPIRES
tcp    203.0.113.7:4711  198.18.0.10:80       web      web1     198.18.10.101:8080  established  1.20s   59m58s
udp    [2001:db8::7]:53  [2001:db8:10::1]:53  -        -        -                   unreplied        -    100ms
there are more flows than 2; --limit 0 lists all
`},
		{"wide", flowFlags{vip: endsFlag{ends(t, "198.18.0.10:80")}}, true,
			func(asked *string) *api.Client {
				return answering(t, asked, api.FlowBatch{Flows: []api.Flow{someFlow()}})
			}, "GET /v1/flows?limit=0&vip=198.18.0.10%3A80", `
PROTO  CLIENT            VIP             SERVICE  BACKEND  ADDRESS             STATE         IDLE  EXPIRES  METHOD  SNAT              INTERFACE  VIA
tcp    203.0.113.7:4711  198.18.0.10:80  web      web1     198.18.10.101:8080  established  1.20s   59m58s  nat     198.18.10.2:1024  eth0       02:00:00:00:00:01
`},
		{"count", flowFlags{count: true, by: "backend"}, false,
			func(asked *string) *api.Client { return answering(t, asked, counts) }, "GET /v1/flows/counts?by=backend", `
POOL  BACKEND    FLOWS
web   web1           6
-     (no more)      1
-     total          7
`},
		{"watch", flowFlags{watch: true, interval: time.Second, state: "established"}, false,
			func(asked *string) *api.Client {
				return answering(t, asked, api.FlowEvents{Time: noon, Watching: &watching}, api.FlowEvents{Time: noon.Add(time.Second), Events: []api.FlowEvent{
					{Event: "changed", Was: "half_open", Flow: someFlow()}, {Event: "ended", Flow: gone}}})
			}, "GET /v1/flows/watch?interval=1s&state=established", `
12:00:00.000 watching 2 flows
12:00:01.000 changed tcp 203.0.113.7:4711 > 198.18.0.10:80 web web1 198.18.10.101:8080 half_open -> established
12:00:01.000 ended   udp [2001:db8::7]:53 > [2001:db8:10::1]:53 - - - unreplied
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked string
			var out bytes.Buffer
			client := c.client(&asked)
			c.flags.out = &output.Options{Format: output.FormatTable}
			if c.wide {
				c.flags.out.Format = output.FormatWide
			}
			var err error
			switch {
			case c.flags.count:
				err = c.flags.writeCounts(t.Context(), &out, client)
			case c.flags.watch:
				err = c.flags.writeEvents(t.Context(), &out, client)
			default:
				err = c.flags.writeFlows(t.Context(), &out, &out, client)
			}
			if err != nil || "\n"+out.String() != c.want || asked != c.asked {
				t.Errorf("asked %s\nwant  %s\n%v\n%s\nwant%s", asked, c.asked, err, out.String(), c.want)
			}
		})
	}
}

func ends(t *testing.T, text string) *api.Ends {
	t.Helper()
	e := new(api.Ends)
	if err := e.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return e
}

func somePacket() api.Packet {
	return api.Packet{
		Time: noon.Add(1500 * time.Microsecond), Interface: "eth0", Queue: 1, Action: "drop", Reason: "tcp_flags_invalid", Service: "web", Length: 54,
		Summary: "203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (ttl 64, length 40)", Data: []byte("0123456789abcdef"),
	}
}

// TestDropTables asserts what people see of drops.
func TestDropTables(t *testing.T) {
	reasons := []api.DropCount{{Where: "worker", Reason: "tcp_flags_invalid", Packets: 2001, Rate: 1234}, {Where: "xdp", Reason: "shed", Packets: 3, Rate: 0.5}}
	for _, c := range []struct {
		name string
		d    api.Drops
		want string
	}{
		{"none", api.Drops{}, "\nnothing was dropped\n"},
		{"some", api.Drops{Reasons: reasons, Services: []api.ServiceDrops{{Service: "web", Packets: 9}}}, `
WHERE   REASON             PACKETS
worker  tcp_flags_invalid     2001
xdp     shed                     3

SERVICE  PACKETS
web            9
`},
	} {
		var out bytes.Buffer
		if err := writeDrops(&out, &output.Options{Format: output.FormatTable}, &c.d); err != nil || "\n"+out.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant%s", c.name, err, out.String(), c.want)
		}
	}
	var asked string
	var out bytes.Buffer
	f := dropFlags{out: &output.Options{Format: output.FormatTable}, interval: time.Second, samples: 2, packets: packetFlags{reasons: []string{"too_big", "shed"}}}
	client := answering(t, &asked, api.DropReport{Time: noon, Begun: true}, api.DropReport{Time: noon, Samples: []api.Packet{somePacket()}, Missed: 4}, api.DropReport{Time: noon, Reasons: reasons})
	want := `
12:00:00.000 watching
12:00:00.001500 < eth0/1 tcp_flags_invalid    203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (ttl 64, length 40) service web
12:00:00.000 4 samples came too fast to be shown
12:00:00.000 worker tcp_flags_invalid            2001 packets    1.23k/s
12:00:00.000 xdp    shed                            3 packets     0.50/s
`
	if err := f.writeReports(t.Context(), &out, client); err != nil || "\n"+out.String() != want {
		t.Errorf("%v\n%s\nwant%s", err, out.String(), want)
	}
	if want := "GET /v1/drops/watch?interval=1s&reason=too_big&reason=shed&samples=2"; asked != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
}

func captureFlagsFor(file string) *captureFlags {
	client := netip.MustParsePrefix("203.0.113.0/24")
	return &captureFlags{
		out: &output.Options{Format: output.FormatTable}, file: file, format: "pcapng", direction: "both", count: 5, snap: 96, length: time.Minute, sample: 10,
		packets: packetFlags{service: "web", client: prefixFlag{&client}},
	}
}

// TestCaptureOutput asserts what becomes of a capture: the file, and what is
// said of it when it ends as it should, is interrupted, refused or cut off.
func TestCaptureOutput(t *testing.T) {
	begun := api.CaptureChunk{Begun: &api.CaptureBegin{Interfaces: []string{"eth0"}, Memos: "off"}}
	some := api.CaptureChunk{Packets: []api.Packet{somePacket(), somePacket()}}
	end := api.CaptureChunk{End: &api.CaptureEnd{Why: "duration", Matched: 30, Frames: 2, Lost: 1}}
	const memos = "flows that are captured do not go by memos of the XDP program meanwhile\n"

	file := filepath.Join(t.TempDir(), "x.pcap")
	var asked string
	var out, notes bytes.Buffer
	if err := captureFlagsFor(file).capture(t.Context(), answering(t, &asked, begun, some, end), &out, &notes); err != nil {
		t.Fatal(err)
	}
	if want := memos + "2 frames captured of 30 packets that were selected, 1 left out because they came too fast; ended by duration\n"; notes.String() != want || out.Len() > 0 {
		t.Errorf("said %q, want %q", notes.String(), want)
	}
	if want := "POST /v1/capture?client=203.0.113.0%2F24&count=5&direction=both&duration=1m&keep_memos=false&sample=10&service=web&snaplen=96"; asked != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
	if n, comment := captured96(t, file); n != 2 || comment != "service web, client 203.0.113.0/24, direction both, sample 1/10" {
		t.Errorf("%d packets in the file, which says %q", n, comment)
	}

	t.Run("in lines", func(t *testing.T) {
		var out, notes bytes.Buffer
		if err := captureFlagsFor("").capture(t.Context(), answering(t, nil, begun, some, end), &out, &notes); err != nil {
			t.Fatal(err)
		}
		line := "12:00:00.001500 < eth0/1 tcp_flags_invalid    203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (ttl 64, length 40) service web\n"
		if out.String() != line+line {
			t.Errorf("wrote\n%s\nwant\n%s", out.String(), line+line)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "x.pcap")
		err := captureFlagsFor(file).capture(t.Context(), answering(t, nil, begun, some), &out, &notes)
		if err == nil || err.Error() != "the connection to the node was lost; 2 frames were captured" {
			t.Errorf("%v", err)
		}
		if n, _ := captured96(t, file); n != 2 {
			t.Errorf("%d packets in the file", n)
		}
	})
	t.Run("disk full", func(t *testing.T) {
		many := api.CaptureChunk{Packets: make([]api.Packet, 1000)}
		for i := range many.Packets {
			many.Packets[i] = somePacket()
		}
		err := captureFlagsFor("/dev/full").capture(t.Context(), answering(t, nil, begun, many, end), &out, &notes)
		if err == nil || err.Error() != "write /dev/full: no space left on device" {
			t.Errorf("%v", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "x.pcap")
		refusal := map[string]any{"error": map[string]any{"code": "too_many", "message": "2 captures are under way already"}}
		err := captureFlagsFor(file).capture(t.Context(), answering(t, nil, refusal), &out, &notes)
		if err == nil || err.Error() != "2 captures are under way already" {
			t.Errorf("%v", err)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("a refused capture leaves a file: %v", err)
		}
	})
	t.Run("a link in the way", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "x.pcap")
		if err := os.Symlink(filepath.Join(dir, "precious"), file); err != nil {
			t.Fatal(err)
		}
		if err := captureFlagsFor(file).capture(t.Context(), answering(t, nil, begun, some, end), &out, &notes); err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
			t.Errorf("%v", err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var notes bytes.Buffer
		if err := captureFlagsFor("").capture(ctx, answering(t, nil, begun), &out, &notes); err != nil || notes.String() != "0 frames captured; interrupted\n" {
			t.Errorf("%v, said %q", err, notes.String())
		}
	})
}

// captured96 reads a file with packets of 96 bytes at most.
func captured96(t *testing.T, file string) (packets int, comment string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return packets, r.SectionInfo().Comment
		}
		if !bytes.Equal(data, somePacket().Data) {
			t.Errorf("a packet of %x", data)
		}
		packets++
	}
}

// TestPacketArguments asserts what is refused before the node is asked.
func TestPacketArguments(t *testing.T) {
	noAddress := " is no address, prefix, or address and port, such as 203.0.113.7, 203.0.113.0/24, 203.0.113.7:4711 or [2001:db8::1]:4711"
	noPrefix := " is no address or prefix, such as 203.0.113.7 or 203.0.113.0/24"
	for _, c := range []struct{ args, want string }{
		{"flows --client 203.0.113.300", `invalid argument "203.0.113.300" for "--client" flag: "203.0.113.300"` + noAddress},
		{"flows --vip 198.18.0.10:0", `invalid argument "198.18.0.10:0" for "--vip" flag: "198.18.0.10:0"` + noAddress},
		{"flows --by state", "--by is for --count"},
		{"flows --for 1m", "--for is for --watch"},
		{"flows --interval 2s --count", "--interval is for --watch"},
		{"flows --count --watch", "if any flags in the group [count watch] are set none of the others can be; [count watch] were all set"},
		{"flows --watch -o yaml", "--watch writes lines as they come: -o table, wide or json"},
		{"flows extra", `unknown command "extra" for "fairlead flows"`},
		{"drops --samples 3", "--samples is for --watch"},
		{"drops --client 203.0.113.7:80 --watch", `invalid argument "203.0.113.7:80" for "--client" flag: "203.0.113.7:80"` + noPrefix},
		{"capture --sample 0", `invalid argument "0" for "--sample" flag: "0" is not one in so many: write it as 1/100 or 100, up to 1/1000000`},
		{"capture --sample 2/3", `invalid argument "2/3" for "--sample" flag: "2/3" is not one in so many: write it as 1/100 or 100, up to 1/1000000`},
		{"capture --format cap", "--format is pcapng or pcap"},
		{"capture -o yaml", "a capture is written in lines as it comes: -o table, wide or json"},
		{"capture -w x.pcap -o json", "--output is for captures that are not written to a file"},
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(c.args))
		root.SetOut(new(bytes.Buffer))
		root.SetErr(new(bytes.Buffer))
		if err := execute(root); err == nil || err.Error() != c.want || exitCode(err) != exitUsage {
			t.Errorf("%s: %v, exit status %d\nwant %s", c.args, err, exitCode(err), c.want)
		}
	}
}

// TestPacketJSON asserts the lines that programs read.
func TestPacketJSON(t *testing.T) {
	var out bytes.Buffer
	f := flowFlags{out: &output.Options{Format: output.FormatJSON}, watch: true, interval: time.Second}
	if err := f.writeEvents(t.Context(), &out, answering(t, nil, api.FlowEvents{Time: noon.UTC(), Events: []api.FlowEvent{{Event: "new", Flow: someFlow()}}})); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"time": noon.UTC().Format(time.RFC3339), "event": "new", "protocol": "tcp", "client": "203.0.113.7:4711", "vip": "198.18.0.10:80", "service": "web",
		"method": "nat", "backend": "web1", "address": "198.18.10.101:8080", "snat": "198.18.10.2:1024", "state": "established", "idleMs": 1200., "expiresMs": 3598800., "interface": "eth0", "via": "02:00:00:00:00:01"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}
