package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopyInto copies the pool into out.
func (in *AddressPool) DeepCopyInto(out *AddressPool) {
	out.TypeMeta = in.TypeMeta
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.DeepCopyInto(&out.Spec)
	in.Status.DeepCopyInto(&out.Status)
}

// DeepCopy is a copy that shares nothing with the pool.
func (in *AddressPool) DeepCopy() *AddressPool { return deepCopy(in, in.DeepCopyInto) }

// DeepCopyObject is DeepCopy for a runtime.Object.
func (in *AddressPool) DeepCopyObject() runtime.Object { return object(in.DeepCopy()) }

// DeepCopyInto copies the specification into out.
func (in *AddressPoolSpec) DeepCopyInto(out *AddressPoolSpec) {
	*out = *in
	out.Addresses = slices.Clone(in.Addresses)
	out.AutoAssign = clonePointer(in.AutoAssign)
	out.NamespaceSelector = in.NamespaceSelector.DeepCopy()
	out.ServiceSelector = in.ServiceSelector.DeepCopy()
	out.Namespaces = slices.Clone(in.Namespaces)
}

// DeepCopyInto copies the status into out.
func (in *AddressPoolStatus) DeepCopyInto(out *AddressPoolStatus) {
	*out = *in
	out.Conditions = cloneEach(in.Conditions, func(c *metav1.Condition, o *metav1.Condition) { c.DeepCopyInto(o) })
	out.IPv4 = clonePointer(in.IPv4)
	out.IPv6 = clonePointer(in.IPv6)
	out.Conflicts = slices.Clone(in.Conflicts)
}

// DeepCopyInto copies the list into out.
func (in *AddressPoolList) DeepCopyInto(out *AddressPoolList) {
	out.TypeMeta = in.TypeMeta
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = cloneEach(in.Items, (*AddressPool).DeepCopyInto)
}

// DeepCopy is a copy that shares nothing with the list.
func (in *AddressPoolList) DeepCopy() *AddressPoolList { return deepCopy(in, in.DeepCopyInto) }

// DeepCopyObject is DeepCopy for a runtime.Object.
func (in *AddressPoolList) DeepCopyObject() runtime.Object { return object(in.DeepCopy()) }

// DeepCopyInto copies the reservation into out.
func (in *AddressReservation) DeepCopyInto(out *AddressReservation) {
	out.TypeMeta = in.TypeMeta
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.DeepCopyInto(&out.Spec)
}

// DeepCopy is a copy that shares nothing with the reservation.
func (in *AddressReservation) DeepCopy() *AddressReservation {
	return deepCopy(in, in.DeepCopyInto)
}

// DeepCopyObject is DeepCopy for a runtime.Object.
func (in *AddressReservation) DeepCopyObject() runtime.Object { return object(in.DeepCopy()) }

// DeepCopyInto copies the specification into out.
func (in *AddressReservationSpec) DeepCopyInto(out *AddressReservationSpec) {
	*out = *in
	out.Holders = cloneEach(in.Holders, (*Holder).DeepCopyInto)
	out.ReservedFor = clonePointer(in.ReservedFor)
}

// DeepCopyInto copies the holder into out.
func (in *Holder) DeepCopyInto(out *Holder) {
	*out = *in
	out.SharingNamespaces = slices.Clone(in.SharingNamespaces)
	out.Ports = slices.Clone(in.Ports)
	out.Claimed = in.Claimed.DeepCopy()
}

// DeepCopyInto copies the list into out.
func (in *AddressReservationList) DeepCopyInto(out *AddressReservationList) {
	out.TypeMeta = in.TypeMeta
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = cloneEach(in.Items, (*AddressReservation).DeepCopyInto)
}

// DeepCopy is a copy that shares nothing with the list.
func (in *AddressReservationList) DeepCopy() *AddressReservationList {
	return deepCopy(in, in.DeepCopyInto)
}

// DeepCopyObject is DeepCopy for a runtime.Object.
func (in *AddressReservationList) DeepCopyObject() runtime.Object { return object(in.DeepCopy()) }

func deepCopy[T any](in *T, into func(*T)) *T {
	if in == nil {
		return nil
	}
	out := new(T)
	into(out)
	return out
}

// object is nil, and not an interface that holds nil, for a nil pointer.
func object[T any, P interface {
	*T
	runtime.Object
}](p P) runtime.Object {
	if p == nil {
		return nil
	}
	return p
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func cloneEach[T any](in []T, into func(*T, *T)) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i := range in {
		into(&in[i], &out[i])
	}
	return out
}
