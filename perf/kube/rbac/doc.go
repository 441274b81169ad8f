// Package rbac tests that the shipped roles are what Fairlead needs: enough, and no
// more.
package rbac
