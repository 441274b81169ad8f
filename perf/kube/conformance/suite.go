package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
}

// suite is somebody else's tests.
type suite interface {
	name() string
	title() string
	run(context.Context, *world, options, io.Writer) ([]result, error)
}

// loadBalancers are Kubernetes' end-to-end tests of Services of type LoadBalancer.
type loadBalancers struct{}

func (loadBalancers) name() string { return "loadbalancers" }

func (loadBalancers) title() string {
	return "Kubernetes' end-to-end tests of LoadBalancer Services (test/e2e/network/loadbalancer.go)"
}

// run runs the tests on the client's host: what they ask a VIP for comes from
// there.
func (loadBalancers) run(ctx context.Context, w *world, o options, log io.Writer) ([]result, error) {
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
		"--ginkgo.focus="+focus, "--ginkgo.no-color", "--ginkgo.json-report="+report, "--ginkgo.timeout="+o.limit.String())
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
			all = append(all, one)
		}
	}
	return all, nil
}

// gateways are the Gateway API's conformance tests.
type gateways struct{}

func (gateways) name() string { return "gateways" }

func (gateways) title() string {
	return "Gateway API conformance: TCPRoute, UDPRoute, ReferenceGrant"
}

// gatewayClass is what the suite's Gateways are of.
const gatewayClass = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: fairlead}\nspec: {controllerName: fairlead.io/gateway}\n"

func (gateways) run(ctx context.Context, w *world, o options, log io.Writer) ([]result, error) {
	if err := w.cluster.Apply(ctx, gatewayClass); err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(w.dir, "client.kubeconfig")
	if err := w.cluster.Kubeconfig(kubeconfig, w.cluster.Inside(w.cluster.REST())); err != nil {
		return nil, err
	}
	args := []string{
		"-test.v", "-test.timeout=" + o.limit.String(),
		"--gateway-class=fairlead", "--supported-features=Gateway,TCPRoute,UDPRoute,ReferenceGrant", "--cleanup-base-resources=false",
	}
	if o.focus != "" {
		args = append(args, "--run-test="+o.focus)
	}
	cmd := exec.Command(filepath.Join(o.suites, "gateways.test"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	var out bytes.Buffer
	if err := w.inClient(ctx, cmd, io.MultiWriter(log, &out)); err != nil {
		return nil, err
	}
	return goResults(&out)
}

// verdict is a line by which a Go test says how one of its parts has ended.
var verdict = regexp.MustCompile(`^ {4}--- (PASS|FAIL|SKIP): TestConformance/(\S+) \(([0-9.]+)s\)`)

// goResults reads the output of a Go test: its first level of parts.
func goResults(out io.Reader) ([]result, error) {
	var all []result
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		m := verdict.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		took, err := time.ParseDuration(m[3] + "s")
		if err != nil {
			return nil, err
		}
		outcomes := map[string]outcome{"PASS": pass, "FAIL": fail, "SKIP": skip}
		all = append(all, result{name: m[2], outcome: outcomes[m[1]], took: took})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b result) int { return strings.Compare(a.name, b.name) })
	if len(all) == 0 {
		return nil, errors.New("the suite has not come to its tests")
	}
	return all, nil
}
