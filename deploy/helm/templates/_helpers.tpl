{{- define "dpiqa.labels" -}}
app.kubernetes.io/name: dpiqa
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select the pods of a component: (list $ "api"). They never change. */}}
{{- define "dpiqa.selector" -}}
app.kubernetes.io/name: dpiqa
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The image of a target: (list $ "light"). */}}
{{- define "dpiqa.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}-{{ index . 1 }}
{{- end }}

{{- define "dpiqa.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "dpiqa.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Environment of every process. */}}
{{- define "dpiqa.env" -}}
- name: DPIQA_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: database-url}}
- name: DPIQA_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: broker-url}}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: aws-access-key-id, optional: true}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: aws-secret-access-key, optional: true}}
- name: DPIQA_MODELS_DIR
  value: /models
- name: DPIQA_PROFILES_DIR
  value: /profiles
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ if kindIs "string" $value }}{{ quote $value }}{{ else }}{{ toJson $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{- define "dpiqa.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: models, mountPath: /models}
- {name: profiles, mountPath: /profiles, readOnly: true}
{{- end }}

{{- define "dpiqa.volumes" -}}
- name: tmp
  emptyDir: {}
- name: models
  {{- if .Values.models.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.models.existingClaim }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: profiles
  {{- if .Values.profiles }}
  configMap: {name: {{ .Release.Name }}-profiles}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}

{{/* Head of a pod: who it is and what it may not do. */}}
{{- define "dpiqa.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false  # a Service named dpiqa-api would set DPIQA_API_PORT to an address
securityContext: {{- include "dpiqa.podSecurity" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
volumes: {{- include "dpiqa.volumes" . | nindent 2 }}
{{- end }}

{{/* A process that serves metrics once it is at work, and ends by itself when one of its loops hangs. */}}
{{- define "dpiqa.measured" -}}
ports: [{name: metrics, containerPort: 9000}]
startupProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}
