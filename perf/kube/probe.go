package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe asks a process how it is, as its probes say, until ctx ends.
func (c *container) probe(ctx context.Context, p *process) {
	yes := true
	if c.spec.StartupProbe != nil && !c.await(ctx, c.spec.StartupProbe, p) {
		return
	}
	ready := c.spec.ReadinessProbe == nil
	c.set(func(s *core.ContainerStatus) { s.Started, s.Ready = &yes, ready })
	var wg sync.WaitGroup
	if c.spec.ReadinessProbe != nil {
		wg.Go(func() {
			c.ask(ctx, c.spec.ReadinessProbe, func(alive bool) bool {
				c.set(func(s *core.ContainerStatus) { s.Ready = alive })
				return true
			})
		})
	}
	if c.spec.LivenessProbe != nil {
		wg.Go(func() {
			c.ask(ctx, c.spec.LivenessProbe, func(alive bool) bool {
				if !alive && c.worker.terminating.Err() == nil {
					_ = p.Kill() // it fails for a process that is gone
					return false
				}
				return true
			})
		})
	}
	wg.Wait()
}

// await asks until the first good answer. A process that has not given one in time
// is killed.
func (c *container) await(ctx context.Context, probe *core.Probe, p *process) (started bool) {
	c.ask(ctx, probe, func(alive bool) bool {
		if started = alive; !alive {
			_ = p.Kill() // it fails for a process that is gone
		}
		return false
	})
	return started
}

// ask tells of each change of mind, and of the first one, until tell says no or
// ctx ends.
func (c *container) ask(ctx context.Context, probe *core.Probe, tell func(alive bool) bool) {
	if !pause(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	var told, alive bool
	good, bad := int32(0), int32(0)
	for {
		if err := c.attempt(ctx, probe); err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case good >= max(probe.SuccessThreshold, 1) && (!told || !alive):
			told, alive = true, true
		case bad >= max(probe.FailureThreshold, 1) && (!told || alive):
			told, alive = true, false
		default:
			if !pause(ctx, period(probe)) {
				return
			}
			continue
		}
		if !tell(alive) || !pause(ctx, period(probe)) {
			return
		}
	}
}

func period(probe *core.Probe) time.Duration {
	return time.Duration(max(probe.PeriodSeconds, 1)) * time.Second
}

func (c *container) attempt(ctx context.Context, probe *core.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	switch h := probe.ProbeHandler; {
	case h.HTTPGet != nil:
		return c.get(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		return c.dial(ctx, h.TCPSocket.Host, h.TCPSocket.Port)
	case h.Exec != nil:
		return c.exec(ctx, h.Exec.Command, nil, io.Discard, io.Discard)
	}
	return errors.New("the lab knows no such probe")
}

// hook is what is done before a container ends.
func (c *container) hook(ctx context.Context, h *core.LifecycleHandler) error {
	switch {
	case h.HTTPGet != nil:
		return c.get(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		return c.dial(ctx, h.TCPSocket.Host, h.TCPSocket.Port)
	case h.Exec != nil:
		return c.exec(ctx, h.Exec.Command, nil, io.Discard, io.Discard)
	case h.Sleep != nil:
		pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}

// get asks by HTTP, from the node.
func (c *container) get(ctx context.Context, a *core.HTTPGetAction) error {
	address, err := c.address(a.Host, a.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if a.Scheme == core.URISchemeHTTPS {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+a.Path, nil)
	if err != nil {
		return err
	}
	for _, h := range a.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
	}
	transport := &http.Transport{
		DialContext: c.worker.kubelet.node.Host.Dial, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as kubelets do
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < http.StatusOK || answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s answers %s", request.URL, answer.Status)
	}
	return nil
}

func (c *container) dial(ctx context.Context, host string, port intstr.IntOrString) error {
	address, err := c.address(host, port)
	if err != nil {
		return err
	}
	conn, err := c.worker.kubelet.node.Host.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// address is that of a port of the container, by number or by name.
func (c *container) address(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		c.worker.mu.Lock()
		host = c.worker.box.ipv4.String()
		c.worker.mu.Unlock()
	}
	number := port.IntValue()
	if port.Type == intstr.String && number == 0 {
		for _, p := range c.spec.Ports {
			if p.Name == port.StrVal {
				number = int(p.ContainerPort)
			}
		}
	}
	if number == 0 {
		return "", fmt.Errorf("container %s has no port %s", c.spec.Name, port.String())
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}
