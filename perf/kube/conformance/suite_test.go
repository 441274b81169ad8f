package main

import (
	"slices"
	"testing"
	"time"
)

func TestGinkgoResults(t *testing.T) {
	const report = `[{"SpecReports": [
		{"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "one", "State": "passed", "RunTime": 1500000000,
			"CapturedGinkgoWriterOutput": "I1 Load Balancer total HTTP requests: 12\\nNetwork errors: 0\\nHTTP errors: 1\\nLoad Balancer total HTTP requests: 30\\nNetwork errors: 2\\nHTTP errors: 0\\n"},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "two", "State": "failed", "Failure": {"Message": "no answer\nat all"}},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "three", "State": "skipped", "Failure": {"Message": "one node"}},
		{"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "four", "State": "skipped"},
		{"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "five", "State": "skipped"},
		{"LeafNodeType": "SynchronizedAfterSuite", "State": "failed", "Failure": {"Message": "left behind"}}
	]}]`
	got, err := ginkgoResults([]byte(report))
	want := []result{
		{name: "[sig-network] LoadBalancers one", outcome: pass, took: 1500 * time.Millisecond, requests: 42, lost: 3},
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
