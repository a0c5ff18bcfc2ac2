{{/* Labels by which the evaluation's servers are told apart. */}}
{{- define "vestibule.evaluation.selector" -}}
app.kubernetes.io/name: {{ include "vestibule.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .which }}
vestibule/evaluation: "true"
{{- end -}}

{{/* What all their containers have in common. */}}
{{- define "vestibule.evaluation.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "vestibule.evaluation.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .group }}
  fsGroup: {{ .group }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* A Service under which each of its pods has a name, and the one volume of each. */}}
{{- define "vestibule.evaluation.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "vestibule.fullname" .root }}-{{ .which }}
  labels:
    {{- include "vestibule.evaluation.selector" . | nindent 4 }}
    {{- include "vestibule.commonLabels" .root | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "vestibule.evaluation.selector" . | nindent 4 }}
  ports:
    - {name: {{ .which }}, port: {{ .port }}, targetPort: {{ .port }}, protocol: TCP}
{{- end -}}

{{- define "vestibule.evaluation.volume" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .root.Values.evaluation.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .storage }}}}
{{- end -}}
