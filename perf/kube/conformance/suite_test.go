package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGinkgoResults(t *testing.T) {
	const report = `[{"SpecReports": [
		{"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "one", "State": "passed", "RunTime": 1500000000},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "two", "State": "failed", "Failure": {"Message": "no answer\nat all"}},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "three", "State": "skipped", "Failure": {"Message": "one node"}},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "four", "State": "skipped"},
		{"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "five", "State": "skipped"},
		{"LeafNodeType": "SynchronizedAfterSuite", "State": "failed", "Failure": {"Message": "left behind"}}
	]}]`
	got, err := ginkgoResults([]byte(report))
	want := []result{
		{name: "[sig-network] LoadBalancers one", outcome: pass, took: 1500 * time.Millisecond},
		{name: "[sig-network] LoadBalancers two", outcome: fail, why: "no answer"},
		{name: "[sig-network] LoadBalancers three", outcome: skip, why: "one node"},
		{outcome: fail, why: "left behind"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := ginkgoResults([]byte("{")); err == nil || err.Error() != "report of the suite: unexpected end of JSON input" {
		t.Errorf("half a report: %v", err)
	}
}

func TestGoResults(t *testing.T) {
	const out = `=== RUN   TestConformance
--- FAIL: TestConformance (9.00s)
    --- PASS: TestConformance/UDPRoute (2.50s)
        --- PASS: TestConformance/UDPRoute/Simple (1.00s)
    --- FAIL: TestConformance/TCPRoute (1.00s)
    --- SKIP: TestConformance/HTTPRoute (0.00s)
`
	got, err := goResults(strings.NewReader(out))
	want := []result{{name: "HTTPRoute", outcome: skip}, {name: "TCPRoute", outcome: fail, took: time.Second}, {name: "UDPRoute", outcome: pass, took: 2500 * time.Millisecond}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := goResults(strings.NewReader("panic\n")); err == nil || err.Error() != "the suite has not come to its tests" {
		t.Errorf("no results: %v", err)
	}
}
