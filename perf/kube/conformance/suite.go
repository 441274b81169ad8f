package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// outcome is what a test says of Fairlead.
type outcome string

const (
	pass outcome = "pass"
	fail outcome = "FAIL"
	skip outcome = "skip"
)

// result is that of one test.
type result struct {
	name    string
	outcome outcome
	took    time.Duration
	why     string // of a failure or of skipping
	// requests and lost are what a test of rolling updates has counted; 0: it is none.
	requests, lost int
}

// runSuite runs Kubernetes' tests on the client's host: what they ask a VIP for
// comes from there.
func (w *world) runSuite(ctx context.Context, o options, log io.Writer) ([]result, error) {
	focus := "LoadBalancers"
	if o.focus != "" {
		focus += ".*(" + o.focus + ")"
	}
	kubeconfig, report := filepath.Join(w.dir, "client.kubeconfig"), filepath.Join(w.dir, "report.json")
	if err := w.cluster.Kubeconfig(kubeconfig, w.cluster.Inside(w.cluster.REST())); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(o.suites, "loadbalancers.test"),
		"--kubeconfig="+kubeconfig, "--provider=local", "--kubectl-path="+filepath.Join(o.suites, "kubectl"),
		"--report-dir="+w.dir, "--disable-log-dump", "--delete-namespace-on-failure=true",
		"--ginkgo.focus="+focus, "--ginkgo.no-color", "--ginkgo.v", "--ginkgo.json-report="+report, "--ginkgo.timeout="+o.limit.String())
	if err := w.inClient(ctx, cmd, log); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("the suite has not come to its end: %w", err)
	}
	return ginkgoResults(data)
}

// inClient runs a suite on the client's host until it ends. That tests fail is no
// error.
func (w *world) inClient(ctx context.Context, cmd *exec.Cmd, log io.Writer) error {
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = w.dir
	p, err := w.cluster.Rack.Client.Start(cmd)
	if err != nil {
		return err
	}
	err = p.Wait(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// ginkgoResults reads a report of Ginkgo: the specs that were in focus.
func ginkgoResults(data []byte) ([]result, error) {
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
			RunTime                 time.Duration
			Failure                 struct{ Message string }

			CapturedGinkgoWriterOutput string
		}
	}
	if err := json.Unmarshal(data, &suites); err != nil {
		return nil, fmt.Errorf("report of the suite: %w", err)
	}
	var all []result
	for _, s := range suites {
		for _, r := range s.SpecReports {
			about := strings.Join(r.ContainerHierarchyTexts, " ")
			of := r.LeafNodeType == "It" && strings.Contains(about, "LoadBalancers")
			if of && r.State == "skipped" && r.Failure.Message == "" {
				continue // out of focus
			}
			if !of && r.State != "failed" {
				continue
			}
			one := result{name: strings.TrimSpace(about + " " + r.LeafNodeText), outcome: fail, took: r.RunTime}
			switch r.State {
			case "passed":
				one.outcome = pass
			case "skipped":
				one.outcome = skip
			}
			one.why, _, _ = strings.Cut(r.Failure.Message, "\n")
			one.requests = counted(r.CapturedGinkgoWriterOutput, "Load Balancer total HTTP requests")
			one.lost = counted(r.CapturedGinkgoWriterOutput, "Network errors") + counted(r.CapturedGinkgoWriterOutput, "HTTP errors")
			all = append(all, one)
		}
	}
	return all, nil
}

// counted is the sum of what a test has told of something, as "what: 12".
func counted(log, what string) (sum int) {
	for _, m := range regexp.MustCompile(regexp.QuoteMeta(what)+`: (\d+)`).FindAllStringSubmatch(log, -1) {
		n, _ := strconv.Atoi(m[1]) // digits, and few
		sum += n
	}
	return sum
}
