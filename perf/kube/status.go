package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// requestTimeout bounds one request of a kubelet, and retryDelay is between those
// that fail.
const (
	requestTimeout = 10 * time.Second
	retryDelay     = 100 * time.Millisecond
)

// report writes the pod's status unless it is what was written last. It returns a
// channel that says when to try again, nil if that is not needed.
func (w *worker) report(pod *core.Pod, written *string) <-chan time.Time {
	status := w.status(pod)
	text := describe(status)
	if text == *written {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.ctx, requestTimeout)
	defer cancel()
	if err := w.write(ctx, pod, status); err != nil {
		return time.After(retryDelay)
	}
	*written = text
	return nil
}

// describe is the same for two statuses that differ in times alone.
func describe(s core.PodStatus) string {
	c := s.DeepCopy()
	for i := range c.Conditions {
		c.Conditions[i].LastTransitionTime = meta.Time{}
	}
	// A status is made of plain fields: it can be encoded.
	data, _ := json.Marshal(c)
	return string(data)
}

// write merges a status into the pod's object.
func (w *worker) write(ctx context.Context, pod *core.Pod, status core.PodStatus) error {
	// What has no value any more is to go.
	fields := map[string]any{"reason": nil, "message": nil}
	data, err := json.Marshal(status)
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": w.uid}, "status": fields})
	if err != nil {
		return err
	}
	_, err = w.kubelet.node.cluster.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone, or another one of its name is there
	}
	return err
}

// status is what is true of the pod now.
func (w *worker) status(pod *core.Pod) core.PodStatus {
	w.mu.Lock()
	box, initial, containers, trouble := w.box, w.initial, w.containers, w.trouble
	w.mu.Unlock()
	host := w.kubelet.node.Host
	s := core.PodStatus{
		Phase: core.PodPending, StartTime: &w.began,
		HostIP: host.IPv4.String(), HostIPs: []core.HostIP{{IP: host.IPv4.String()}, {IP: host.IPv6.String()}},
	}
	if box != nil {
		s.PodIP, s.PodIPs = box.ipv4.String(), []core.PodIP{{IP: box.ipv4.String()}, {IP: box.ipv6.String()}}
	}
	if trouble != nil {
		s.Reason, s.Message = "LabError", trouble.Error()
	}
	var waiting, running, failed int
	var unready []string
	initialized := true
	for _, c := range initial {
		cs := c.current()
		s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
		initialized = initialized && c.succeeded()
		if over := cs.State.Terminated; over != nil && over.ExitCode != 0 && c.final(over) {
			failed++
		}
	}
	for _, c := range containers {
		cs := c.current()
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
		over := cs.State.Terminated
		switch {
		case cs.State.Running != nil:
			running++
		case over != nil && c.final(over):
			if over.ExitCode != 0 {
				failed++
			}
		case cs.LastTerminationState.Terminated != nil:
			running++ // about to be started again
		default:
			waiting++
		}
		if !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	switch {
	case !initialized && failed > 0:
		s.Phase = core.PodFailed
	case len(containers) == 0 || waiting > 0:
	case running > 0:
		s.Phase = core.PodRunning
	case failed > 0:
		s.Phase = core.PodFailed
	default:
		s.Phase = core.PodSucceeded
	}
	s.Conditions = conditions(pod, box != nil, initialized, len(containers) > 0 && len(unready) == 0, unready)
	return s
}

// final is true when the container is not started again.
func (c *container) final(over *core.ContainerStateTerminated) bool {
	if c.worker.terminating.Err() != nil {
		return true
	}
	return c.over(over.ExitCode)
}

// conditions are those that a kubelet owns. The time of one that has not changed
// stays.
func conditions(pod *core.Pod, network, initialized, ready bool, unready []string) []core.PodCondition {
	containersReady := condition(core.ContainersReady, ready, "ContainersNotReady", "not ready: "+strings.Join(unready, ", "))
	podReady := containersReady
	podReady.Type = core.PodReady
	for _, gate := range pod.Spec.ReadinessGates {
		if !ready {
			break
		}
		open := slices.ContainsFunc(pod.Status.Conditions, func(c core.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == core.ConditionTrue
		})
		if !open {
			podReady = condition(core.PodReady, false, "ReadinessGatesNotReady", fmt.Sprintf("the gate %s is closed", gate.ConditionType))
		}
	}
	all := []core.PodCondition{
		condition(core.PodReadyToStartContainers, network, "", ""), condition(core.PodInitialized, initialized, "ContainersNotInitialized", ""), containersReady, podReady,
	}
	for i := range all {
		all[i].LastTransitionTime = meta.Now()
		for _, old := range pod.Status.Conditions {
			if old.Type == all[i].Type && old.Status == all[i].Status {
				all[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return all
}

func condition(kind core.PodConditionType, holds bool, reason, message string) core.PodCondition {
	if holds {
		return core.PodCondition{Type: kind, Status: core.ConditionTrue}
	}
	return core.PodCondition{Type: kind, Status: core.ConditionFalse, Reason: reason, Message: message}
}
