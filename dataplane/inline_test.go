package dataplane_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hotInlined are functions that the journey of a plain packet of a known flow
// counts on costing no call, by package.
var hotInlined = map[string][]string{
	".": {
		"target", "isTransport", "isICMP", "isLaterFragment", "isNeighborSolicitation", "opens", "restarts", "answers", "limited",
		"drop", "(*Verdict).drop", "(*Verdict).answer", "(*flowTimeouts).of", "(*Worker).tally", "(*Worker).trace",
		"(*Worker).toBackend", "(*Worker).toClient",
	},
	"./fib": {
		"ID.Slot", "(*Snapshot).Local", "(*Snapshot).LocalByID", "(*Snapshot).ServiceByID", "(*Snapshot).BackendByID", "(*Snapshot).Backend",
		"(*Snapshot).Pool", "(*Snapshot).NextHop", "(*Snapshot).Interface", "(*Snapshot).Settings", "(*Snapshot).Services",
	},
	"./flow":   {"(*Table).Hash", "(*Table).Touch", "Time.Before", "(*record).life", "life.live", "(*Table).IsPeer"},
	"./nic":    {"(*Pool).Base", "(*Pool).Bytes", "(*Pool).Get", "(*Pool).Put", "(*Pool).set"},
	"./ledger": {"(*Ledger).Sent"},
}

// hotFiles are the files in which nothing may go to the heap.
var hotFiles = []string{
	"classify.go", "decide.go", "decide_icmp.go", "forward.go", "handle.go", "limiter.go", "transmit.go", "verdict.go", "watch.go",
	"fib/lookup.go", "flow/lookup.go", "flow/advance.go", "flow/change.go", "flow/hash.go", "flow/peers.go", "flow/bind.go", "flow/insert.go", "flow/record.go",
}

// TestHotPathIsCompiledAsMeant reads what the compiler says of the data path.
func TestHotPathIsCompiledAsMeant(t *testing.T) {
	for dir, names := range hotInlined {
		out, err := exec.Command("go", "build", "-gcflags=-m", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("go build %s: %v\n%s", dir, err, out)
		}
		inlined := make(map[string]bool)
		for _, m := range regexp.MustCompile(`can inline (\S+)`).FindAllStringSubmatch(string(out), -1) {
			inlined[m[1]] = true
		}
		if len(inlined) == 0 {
			t.Fatalf("%s: the compiler names no function that it can inline; is its output understood?\n%s", dir, out)
		}
		for _, name := range names {
			if !inlined[name] {
				t.Errorf("%s: %s is not inlined", dir, name)
			}
		}
		for line := range strings.Lines(string(out)) {
			file, _, _ := strings.Cut(line, ":")
			heap := strings.Contains(line, "moved to heap") || strings.Contains(line, "escapes to heap") && !strings.Contains(line, "append escapes")
			if strings.Contains(line, "s.names") {
				continue // names are for those who look at a snapshot from outside
			}
			if heap && slices.Contains(hotFiles, strings.TrimPrefix(file, "./")) {
				t.Errorf("on the hot path: %s", strings.TrimSpace(line))
			}
		}
	}
}
