// Package doctor examines a machine and, when one runs, the node on it: what
// keeps packets from being forwarded, what loses them, and what makes it slow.
// Every finding says what to do. Nothing is changed, and nothing is sent but
// questions to the node's own admin socket and to the API server of Kubernetes.
package doctor

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/configs"
	"fairlead/controlplane/api"
)

// Status is how well something is.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warning Status = "warning" // it costs packets or speed, or may do so
	Error   Status = "error"   // traffic does not flow, or the node does not start
)

// Severity orders the statuses: 0 is OK.
func (s Status) Severity() int { return slices.Index([]Status{OK, Warning, Error}, s) }

// Finding is one thing that was looked at.
type Finding struct {
	Status  Status `json:"status"`
	Check   string `json:"check"`   // stable name, such as "bpf_jit"
	Subject string `json:"subject"` // what it is about, such as "eth0"; empty for the machine
	Found   string `json:"found"`
	Advice  string `json:"advice,omitempty"`  // what to do
	Command string `json:"command,omitempty"` // that does it, where one does
}

// Report is the result of an examination.
type Report struct {
	Status   Status    `json:"status"` // the worst of all
	Findings []Finding `json:"findings"`
}

// Subjects of what an examination is about.
type Subjects struct {
	Config *configs.Config // nil: the machine alone
	// Node is the status of the node that runs here, nil when none does, and
	// PID its control process, 0 when that is not known.
	Node *api.Summary
	PID  int
}

// Examine looks at everything, and reports it together with what is known
// already. The worst comes first.
func Examine(s Subjects, known ...Finding) Report {
	return examine(s, system{proc: "/proc", sys: "/sys", cgroups: "/sys/fs/cgroup"}, known...)
}

func examine(s Subjects, sys system, known ...Finding) Report {
	if s.Config == nil {
		s.Config = configs.Default()
	}
	d := &doctor{Subjects: s, cfg: s.Config, sys: sys, found: known}
	d.preflight()
	d.kernel()
	d.clock()
	d.interfaces()
	d.cpus()
	d.firewall()
	d.processes()
	d.node()
	d.kubernetes()
	slices.SortStableFunc(d.found, func(a, b Finding) int { return cmp.Compare(b.Status.Severity(), a.Status.Severity()) })
	r := Report{Status: OK, Findings: d.found}
	if len(d.found) > 0 {
		r.Status = d.found[0].Status
	}
	return r
}

// doctor collects findings.
type doctor struct {
	Subjects
	cfg   *configs.Config
	sys   system
	found []Finding
}

func (d *doctor) add(f Finding) { d.found = append(d.found, f) }

// ok adds a finding that is as it should be.
func (d *doctor) ok(check, subject, format string, args ...any) {
	d.add(Finding{Status: OK, Check: check, Subject: subject, Found: fmt.Sprintf(format, args...)})
}

// preflight adds what `fairlead check` says of the machine. When a node runs,
// its own rights count and not those of this process.
func (d *doctor) preflight() {
	for _, f := range append(preflight.Machine(d.cfg), preflight.Routes(d.cfg)...) {
		check, subject, _ := strings.Cut(f.Subject, " ")
		if check == "interfaces" || d.PID != 0 && (check == "capabilities" || check == "locked") {
			continue
		}
		d.add(Finding{
			Status: map[preflight.Level]Status{preflight.Error: Error, preflight.Warning: Warning, preflight.Note: OK}[f.Level],
			Check:  check, Subject: subject, Found: f.Text, Advice: f.Advice, Command: f.Command,
		})
	}
}

// system is where the kernel's files are.
type system struct{ proc, sys, cgroups string }

// text is the content of a file without white space around it, "" when it
// cannot be read.
func text(parts ...string) string {
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number is the number in a file.
func number(parts ...string) (n int, ok bool) {
	n, err := strconv.Atoi(text(parts...))
	return n, err == nil
}

// field is the value of a "Key: value" line.
func field(content, key string) string {
	for line := range strings.Lines(content) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// cpuList reads a list of CPUs as the kernel writes it: "0-3,8".
func cpuList(s string) (cpus []int) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(last); err != nil || b-a > 1<<16 {
				continue
			}
		}
		for ; a <= b; a++ {
			cpus = append(cpus, a)
		}
	}
	return cpus
}
