package writer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/report"
)

// begin reads everything from the API server and has what is held adopted, and
// tries until it is done; false: ctx has ended before. The node's copies would not
// do: the writer before this one may have written a moment ago.
func (t *term) begin(ctx context.Context) bool {
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 15*time.Second) {
		began := time.Now()
		n, err := t.adopt(ctx)
		if err == nil {
			t.cfg.Log.Info("all Services are known, and the addresses that they hold", "services", n, "took", time.Since(began).Round(time.Millisecond))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		t.cfg.Failed()
		t.cfg.Log.Warn("no address is assigned before it is known who holds which", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (t *term) adopt(ctx context.Context) (int, error) {
	if t.cfg.Earlier != nil {
		var err error
		if t.earlier, err = t.cfg.Earlier(ctx); err != nil {
			return 0, fmt.Errorf("classes that were served before: %w", err)
		}
	}
	var all []Request
	objects := map[kube.Key]*object{}
	options := metav1.ListOptions{Limit: pageSize}
	for {
		list, err := t.cfg.Client.CoreV1().Services(corev1.NamespaceAll).List(ctx, options)
		if err != nil {
			return 0, fmt.Errorf("list services: %w", err)
		}
		for i := range list.Items {
			svc := &list.Items[i]
			r := t.cfg.Read(svc)
			finalizer := hasFinalizer(svc) && managesFinalizer(svc.ManagedFields)
			if t.ofAnother(svc, r.Ours) || !r.Ours && !finalizer && !hasConditions(svc) {
				continue
			}
			key := keyOf(svc)
			objects[key] = &object{uid: svc.UID, version: svc.ResourceVersion, finalizer: finalizer || r.Ours && hasFinalizer(svc)}
			// One that is to be served no more, too, holds what it has until the
			// nodes have stopped to serve it.
			all = append(all, t.request(svc, &r))
		}
		if list.Continue == "" {
			break
		}
		options.Continue = list.Continue
	}
	if t.cfg.Others != nil {
		others, err := t.cfg.Others(ctx)
		if err != nil {
			return 0, err
		}
		all = append(all, others...)
	}
	if err := t.cfg.Addresses.Sync(ctx, all); err != nil {
		return 0, err
	}
	t.mu.Lock()
	t.objects = objects
	t.mu.Unlock()
	s := report.Of(t.cfg.Fellows)
	t.sum.Store(&s)
	return len(objects), nil
}

func keyOf(svc *corev1.Service) kube.Key {
	return kube.Key{Kind: kube.Service, Namespace: svc.Namespace, Name: svc.Name}
}

func hasFinalizer(svc *corev1.Service) bool { return slices.Contains(svc.Finalizers, kube.Finalizer) }

// managesFinalizer reports whether our finalizer is down as written by us. Every
// provider of load balancers has a finalizer of this name.
func managesFinalizer(fields []metav1.ManagedFieldsEntry) bool {
	for i := range fields {
		if fields[i].Manager != FieldManager || fields[i].Subresource != "" || fields[i].FieldsV1 == nil {
			continue
		}
		var set struct {
			Metadata struct {
				Finalizers map[string]json.RawMessage `json:"f:finalizers"`
			} `json:"f:metadata"`
		}
		if err := json.Unmarshal([]byte(fields[i].FieldsV1.GetRawString()), &set); err != nil {
			continue
		}
		if _, is := set.Metadata.Finalizers[`v:"`+kube.Finalizer+`"`]; is {
			return true
		}
	}
	return false
}

// request is what a Service asks for.
func (t *term) request(svc *corev1.Service, r *Reading) Request {
	req := Request{
		Key: keyOf(svc), UID: string(svc.UID),
		Required: svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
		Options:  r.Options, Labels: svc.Labels, NamespaceLabels: t.cfg.Namespace(svc.Namespace),
		Held: addressesOf(svc.Status.LoadBalancer.Ingress), Created: svc.CreationTimestamp.Time,
	}
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			req.Families = append(req.Families, ledger.IPv6)
		} else {
			req.Families = append(req.Families, ledger.IPv4)
		}
	}
	for _, p := range svc.Spec.Ports {
		req.Ports = append(req.Ports, ledger.Port{Protocol: string(p.Protocol), Port: uint16(p.Port)})
	}
	return req
}
