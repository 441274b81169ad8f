package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Names of the group.
const (
	Group   = "fairlead.io"
	Version = "v1alpha1"
	// The resources as they are in URLs and in RBAC.
	Pools        = "addresspools"
	Reservations = "addressreservations"
)

// SchemeGroupVersion is the group and version of the types here.
var SchemeGroupVersion = schema.GroupVersion{Group: Group, Version: Version}

// AddToScheme registers the types.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&AddressPool{}, &AddressPoolList{}, &AddressReservation{}, &AddressReservationList{})
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
