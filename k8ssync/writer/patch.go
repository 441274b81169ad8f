package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/kube"
)

// timeout bounds one request.
const timeout = 15 * time.Second

// conflict says that an object is not what it was thought to be; the next copy of
// it is.
type conflict struct{ err error }

func (c *conflict) Error() string { return c.err.Error() }
func (c *conflict) Unwrap() error { return c.err }

func isConflict(err error) bool {
	_, is := errors.AsType[*conflict](err)
	return is
}

// patch sends a strategic merge patch, which changes what it names and nothing
// else. It is refused when another object has come in this one's place. The result
// is the object as it is now; nil: it is gone.
func (t *term) patch(ctx context.Context, svc *corev1.Service, o *object, body map[string]any, subresources ...string) (*corev1.Service, error) {
	meta, _ := body["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		body["metadata"] = meta
	}
	meta["uid"] = svc.UID
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("patch of %s: %w", keyOf(svc), err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	now, err := t.cfg.Client.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{FieldManager: FieldManager}, subresources...)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case apierrors.IsConflict(err), apierrors.IsInvalid(err):
		// Invalid is what a patch of another object of this name is, too, and of
		// one whose type has changed.
		return nil, &conflict{fmt.Errorf("%s has changed meanwhile: %w", keyOf(svc), err)}
	case err != nil:
		return nil, fmt.Errorf("patch %s: %w", keyOf(svc), err)
	}
	o.version, o.behind = now.ResourceVersion, time.Time{}
	return now, nil
}

// addFinalizer has the Service not go before its address is given back.
func (t *term) addFinalizer(ctx context.Context, svc *corev1.Service, o *object) (*corev1.Service, error) {
	return t.patch(ctx, svc, o, map[string]any{"metadata": map[string]any{"finalizers": []string{kube.Finalizer}}})
}

// removeFinalizer lets it go. Finalizers of others stay.
func (t *term) removeFinalizer(ctx context.Context, svc *corev1.Service, o *object) (*corev1.Service, error) {
	return t.patch(ctx, svc, o, map[string]any{"metadata": map[string]any{"$deleteFromPrimitiveList/finalizers": []string{kube.Finalizer}}})
}

// writeStatus makes the Service's status be this, as far as it is ours, if it is
// not. An address is only written to the very object that was looked at.
func (t *term) writeStatus(ctx context.Context, svc *corev1.Service, o *object, ingress []corev1.LoadBalancerIngress, conditions []metav1.Condition) (*corev1.Service, error) {
	set, remove := changed(svc, conditions)
	status, meta := map[string]any{}, map[string]any{}
	if !sameIngress(svc.Status.LoadBalancer.Ingress, ingress) {
		meta["resourceVersion"] = svc.ResourceVersion
		status["loadBalancer"] = map[string]any{"ingress": slices.Clone(ingress)} // of none: null, which removes
	}
	var list []any
	for _, c := range set {
		list = append(list, c)
	}
	for _, what := range remove {
		list = append(list, map[string]any{"$patch": "delete", "type": what})
	}
	if list != nil {
		status["conditions"] = list
	}
	if len(status) == 0 {
		return svc, nil
	}
	return t.patch(ctx, svc, o, map[string]any{"metadata": meta, "status": status}, "status")
}

// live is the Service as the API server has it; nil: there is none.
func (t *term) live(ctx context.Context, key kube.Key) (*corev1.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	svc, err := t.cfg.Client.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return svc, nil
}
