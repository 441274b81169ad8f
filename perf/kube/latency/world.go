package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead/controlplane/api"
	"fairlead/perf/kube"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// The addresses of the lab, beside those of the rack's segment: VIPs are reached by
// the balancer, pods by the backends.
var (
	vips = netip.MustParsePrefix("198.18.64.0/18")
	pods = netip.MustParsePrefix("198.18.128.0/18")
)

const (
	maxServices = 16000
	namespace   = "latency"
	probed      = "probed" // the Service that is measured
	probePort   = 8053
	settle      = 10 * time.Minute // for everything to be in force
)

// world is a control plane, a rack with one balancer, and what is on them.
type world struct {
	settings
	dir    string
	api    *kube.ControlPlane
	way    *kube.Proxy
	client *kubernetes.Clientset
	rack   *lab.Rack
	node   *rig.Node
}

func build(ctx context.Context, s settings) (_ *world, err error) {
	w := &world{settings: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "fairlead-latency-"); err != nil {
		return nil, err
	}
	if w.fairlead == "" {
		if w.fairlead, err = rig.Build(w.dir); err != nil {
			return nil, err
		}
	}
	if w.api, err = kube.Start(ctx, kube.Config{}); err != nil {
		return nil, err
	}
	if w.client, err = kubernetes.NewForConfig(w.api.REST()); err != nil {
		return nil, err
	}
	for _, name := range []string{namespace, "fairlead-system"} {
		if _, err := w.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	if w.rack, err = lab.NewRack(1, lab.Config{Backends: 2}); err != nil {
		return nil, err
	}
	lb := w.rack.Balancers[0]
	if err := errors.Join(w.rack.Client.AddRoute(vips, lb.IPv4), lb.AddRoute(pods, w.rack.Backends[0].IPv4)); err != nil {
		return nil, err
	}
	w.way, err = w.api.NewProxy(lb.Host, "127.0.0.1:0")
	return w, err
}

func (w *world) close() error {
	var errs []error
	if w.node != nil {
		errs = append(errs, w.node.Stop())
	}
	if w.rack != nil {
		errs = append(errs, w.rack.Close())
	}
	if w.api != nil {
		errs = append(errs, w.api.Close())
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

func (w *world) lastWords() []byte {
	if w.node == nil || w.node.Process() == nil {
		return nil
	}
	text := w.node.Log()
	return text[max(0, len(text)-4000):]
}

// start starts a node and waits until everything is in force.
func (w *world) start(ctx context.Context) (err error) {
	lb := w.rack.Balancers[0]
	file := filepath.Join(w.dir, "kubeconfig")
	if err := w.api.Kubeconfig(file, w.way.REST(w.api.REST())); err != nil {
		return err
	}
	c := rig.Config{
		Interfaces: []rig.Interface{{Name: lb.Interface.Name}},
		SNAT:       []netip.Addr{w.rack.SNAT4(1)},
		Options:    fmt.Sprintf("[kubernetes]\nkubeconfig = %q\n[[kubernetes.pool]]\nname = \"all\"\naddresses = [%q]\n", file, vips),
	}
	if w.node, err = rig.Start(ctx, w.fairlead, w.dir, lb.Host, "[node]\nname = \"lb1\"\n"+c.Text()); err != nil {
		return err
	}
	return w.until(ctx, "everything is in force", func(s *api.KubernetesStatus) bool {
		return s.State == api.KubernetesConnected && s.Groups == w.services && s.Pending == 0 && len(s.Refused) == 0
	})
}

// until waits for a status of the node.
func (w *world) until(ctx context.Context, what string, is func(*api.KubernetesStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for {
		s, err := w.node.Client().KubernetesStatus(ctx)
		if err == nil && is(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s: %+v, %w", what, s, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
