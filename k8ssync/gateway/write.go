package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
)

// fieldManager is as whom the writer writes.
const fieldManager = "fairlead-gateway"

// patch changes an object, unless it is another one than the copy that the change
// was worked out from (409).
func (t *term) patch(ctx context.Context, id, plural, subresource string, object metav1.Object, change map[string]any) error {
	meta, _ := change["metadata"].(map[string]any)
	if meta == nil {
		meta = make(map[string]any)
		change["metadata"] = meta
	}
	meta["resourceVersion"], meta["uid"] = object.GetResourceVersion(), object.GetUID()
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	request := t.cfg.Room.client.Patch(types.MergePatchType).NamespaceIfScoped(object.GetNamespace(), object.GetNamespace() != "").
		Resource(plural).Name(object.GetName()).Param("fieldManager", fieldManager).Body(body)
	if subresource != "" {
		request = request.SubResource(subresource)
	}
	if err := request.Do(ctx).Error(); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // it is gone, and so is the task
		}
		return fmt.Errorf("patch %s: %w", id, err)
	}
	t.written[id] = object.GetResourceVersion()
	return nil
}

func isConflict(err error) bool { return apierrors.IsConflict(err) }

// class writes the status of a GatewayClass, and keeps it from being deleted for as
// long as there are Gateways of it, as the Gateway API asks for: without their class
// they would lose their addresses.
func (t *term) class(ctx context.Context, plan *Plan, name string, m Moment) error {
	c, id := plan.classes[name], "GatewayClass "+name
	if !t.fresh(id, c.ResourceVersion) {
		return nil
	}
	const finalizer = gatewayv1.GatewayClassFinalizerGatewaysExist
	used := slices.ContainsFunc(plan.order, func(k kube.Key) bool { return plan.gateways[k].class == c })
	if has := slices.Contains(c.Finalizers, finalizer); has != used && (c.DeletionTimestamp == nil || has) {
		finalizers := slices.DeleteFunc(slices.Clone(c.Finalizers), func(f string) bool { return f == finalizer })
		if used {
			finalizers = append(finalizers, finalizer)
		}
		return t.patch(ctx, id, classes, "", c, map[string]any{"metadata": map[string]any{"finalizers": finalizers}})
	}
	status, ok := plan.ClassStatus(name, m)
	if !ok || equality.Semantic.DeepEqual(status, c.Status) {
		return nil
	}
	return t.patch(ctx, id, classes, "status", c, map[string]any{"status": map[string]any{
		"conditions": status.Conditions, "supportedFeatures": status.SupportedFeatures}})
}

// gateway has a Gateway of ours get what it asks for, and told; one that is not, or
// not for long any more, is let go of.
func (t *term) gateway(ctx context.Context, plan *Plan, key kube.Key, gw *gatewayv1.Gateway, m Moment) error {
	id := key.String()
	if !t.fresh(id, gw.ResourceVersion) {
		return nil
	}
	ours := plan.gateways[key] != nil
	if !ours || gw.DeletionTimestamp != nil {
		return t.release(ctx, id, key, gw)
	}
	request, wants := plan.Request(key)
	if wants && !slices.Contains(gw.Finalizers, Finalizer) {
		return t.patch(ctx, id, gateways, "", gw, map[string]any{"metadata": map[string]any{
			"finalizers": append(slices.Clone(gw.Finalizers), Finalizer)}})
	}
	if wants {
		got, err := t.cfg.Addresses.Ensure(ctx, request)
		if err != nil {
			return fmt.Errorf("addresses of %s: %w", id, err)
		}
		t.why[key] = addressing(&request, &got)
		// What the record says of a Gateway that is not accepted stays, too.
		if len(got.Addresses) > 0 && !sameAddresses(got.Addresses, request.Held) {
			return t.patch(ctx, id, gateways, "status", gw, map[string]any{"status": map[string]any{"addresses": statusAddresses(got.Addresses)}})
		}
		if err := t.leave(ctx, id, key, gw, request.Held); err != nil {
			return err
		}
	}
	status, _ := plan.GatewayStatus(key, m)
	t.tell(gw, id, plan.Problems(key))
	if equality.Semantic.DeepEqual(status, gw.Status) {
		return nil
	}
	return t.patch(ctx, id, gateways, "status", gw, map[string]any{"status": map[string]any{
		"conditions": status.Conditions, "listeners": status.Listeners}})
}

// release gives the addresses of a Gateway back when no node serves them any more.
// A Gateway without our finalizer has none of us.
func (t *term) release(ctx context.Context, id string, key kube.Key, gw *gatewayv1.Gateway) error {
	if !slices.Contains(gw.Finalizers, Finalizer) {
		delete(t.leaving, key)
		return nil
	}
	if !t.withdrawn(key, gw) {
		return nil
	}
	if err := t.cfg.Addresses.Release(ctx, key); err != nil {
		return fmt.Errorf("addresses of %s: %w", id, err)
	}
	err := t.patch(ctx, id, gateways, "", gw, map[string]any{"metadata": map[string]any{
		"finalizers": slices.DeleteFunc(slices.Clone(gw.Finalizers), func(f string) bool { return f == Finalizer })}})
	if err == nil {
		delete(t.leaving, key)
	}
	return err
}

// vanished gives back what a Gateway held that has gone without having waited for us:
// somebody has taken our finalizer off. The nodes have been told when we were; there
// is no version of it that they could say they have come to.
func (t *term) vanished(ctx context.Context, key kube.Key) error {
	if len(t.cfg.Addresses.Holds(key)) > 0 {
		since, begun := t.leaving[key]
		if !begun {
			since = t.cfg.Now()
			t.leaving[key] = since
		}
		if t.cfg.Now().Sub(since) < vanishedFor {
			return nil
		}
		wants, err := t.cfg.Room.Wants(ctx, key)
		if err != nil || wants {
			return err // it is there again, and its copy is on its way
		}
		if err := t.cfg.Addresses.Release(ctx, key); err != nil {
			return fmt.Errorf("addresses of %s: %w", key, err)
		}
		t.cfg.Log.Warn("a Gateway has gone and did not wait until its address was given back", "gateway", key.Namespace+"/"+key.Name)
	}
	delete(t.leaving, key)
	delete(t.known, key)
	return nil
}

// withdrawn reports whether no node serves what a Gateway had before its present
// version, or nodes have been waited for for long enough.
func (t *term) withdrawn(key kube.Key, gw *gatewayv1.Gateway) bool {
	now := t.cfg.Now()
	since, begun := t.leaving[key]
	if !begun {
		since = now
		t.leaving[key] = since
	}
	if t.cfg.Fellows == nil {
		return true
	}
	done, others := t.sum.Withdrawn(kube.Gateway, gw.ResourceVersion)
	if done {
		return true
	}
	if now.Sub(since) < t.cfg.Patience {
		return false
	}
	names := make([]string, len(others))
	for i := range others {
		names[i] = others[i].String()
	}
	t.cfg.Log.Warn("an address of a Gateway is given back although nodes may serve it", "gateway", gw.Namespace+"/"+gw.Name, "nodes", strings.Join(names, "; "))
	return true
}

// leave gives back what a Gateway has left for other addresses, which are recorded,
// when no node serves it any more.
func (t *term) leave(ctx context.Context, id string, key kube.Key, gw *gatewayv1.Gateway, keep []netip.Addr) error {
	if !slices.ContainsFunc(t.cfg.Addresses.Holds(key), func(a netip.Addr) bool { return !slices.Contains(keep, a) }) {
		delete(t.leaving, key)
		return nil
	}
	if !t.withdrawn(key, gw) {
		return nil
	}
	if err := t.cfg.Addresses.Release(ctx, key, keep...); err != nil {
		return fmt.Errorf("addresses of %s: %w", id, err)
	}
	return nil // what is left has to be looked at once more
}

// route writes the status of a route.
func (t *term) route(ctx context.Context, plan *Plan, key RouteKey, m Moment) error {
	r, id := plan.routes[key], key.String()
	status, _ := plan.RouteStatus(key, m)
	if !t.fresh(id, r.meta.ResourceVersion) || equality.Semantic.DeepEqual(status, *r.status) {
		return nil
	}
	return t.patch(ctx, id, plurals[key.Kind], "status", r.meta, map[string]any{"status": map[string]any{"parents": status.Parents}})
}

// addressing says why a Gateway has not got what it asks for.
func addressing(r *allocate.Request, got *allocate.Assignment) Addressing {
	var messages []string
	for _, p := range got.Problems {
		if p.Severity == kube.Warning {
			messages = append(messages, p.Message)
		}
	}
	message := strings.Join(messages, "; ")
	reason := string(gatewayv1.GatewayReasonAddressNotAssigned)
	if len(r.Options.Addresses) > 0 {
		reason = string(gatewayv1.GatewayReasonAddressNotUsable)
	}
	switch {
	case len(got.Addresses) == 0 && message == "":
		return Addressing{reason, "there is no address for it"}
	case len(got.Addresses) == 0:
		return Addressing{reason, message}
	}
	for _, a := range r.Options.Addresses {
		if !slices.Contains(got.Addresses, a) {
			if message == "" {
				message = fmt.Sprintf("%s is not assigned", a)
			}
			return Addressing{reason, message}
		}
	}
	return Addressing{}
}

func sameAddresses(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}

func statusAddresses(addresses []netip.Addr) []gatewayv1.GatewayStatusAddress {
	kind := gatewayv1.IPAddressType
	out := make([]gatewayv1.GatewayStatusAddress, len(addresses))
	for i, a := range addresses {
		out[i] = gatewayv1.GatewayStatusAddress{Type: &kind, Value: a.String()}
	}
	return out
}
